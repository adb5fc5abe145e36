//! Parses `[dashboard]`. Pure.

use super::super::{
    dashboard::DashboardConfig,
    document::{ConfigNode, ParseContext, TableFields, Value},
};
use crate::text::Escaped;

pub(super) const DASHBOARD_KEYS: [&str; 3] = ["listen", "allow_remote", "allowed_hosts"];

/// Maximum number of `allowed_hosts`.
const HOSTS_MAX: usize = 16;

pub(super) fn read_dashboard(
    node: &ConfigNode<'_>,
    context: &mut ParseContext<'_, '_>,
) -> DashboardConfig {
    let fields = TableFields::new(node, "[dashboard]", &DASHBOARD_KEYS, context);
    let mut config = DashboardConfig {
        listen: None,
        allow_remote: fields.flag("allow_remote", context).unwrap_or(false),
        allowed_hosts: read_hosts(&fields, context),
        token: None,
    };
    read_listen(&fields, context, &mut config);
    if config.is_remote() && !config.allow_remote {
        let message = "`listen` is reachable from other machines".to_owned();
        let remedy = "write \"127.0.0.1:8098\" and use a tunnel, or set allow_remote = true; the \
                      page is not encrypted";
        context.problem(fields.at("listen"), message, remedy);
    } else if config.is_remote() {
        let message = "`listen` is reachable from other machines, and the page is not encrypted";
        let remedy = "use it only behind a firewall or in a private network";
        context.warning(fields.at("listen"), message.to_owned(), remedy);
    }
    config
}

fn read_listen(
    fields: &TableFields<'_, '_>,
    context: &mut ParseContext<'_, '_>,
    config: &mut DashboardConfig,
) {
    let Some(text) = fields.text("listen", context) else { return };
    config.listen = text.parse().ok();
    if config.listen.is_none() {
        let message = format!("`listen` is not an address with a port: \"{}\"", Escaped(text));
        context.problem(fields.at("listen"), message, "write one such as \"127.0.0.1:8098\"");
    }
}

fn read_hosts(fields: &TableFields<'_, '_>, context: &mut ParseContext<'_, '_>) -> Vec<String> {
    let Some(node) = fields.get("allowed_hosts") else { return Vec::new() };
    let remedy = "write a list such as [\"sniper:8098\"]";
    let list = match &node.value {
        Value::List(list) if list.len() <= HOSTS_MAX => list,
        Value::List(_) => {
            let message = format!("`allowed_hosts` has more than {HOSTS_MAX} names");
            context.problem(node.at, message, "remove some");
            return Vec::new();
        }
        other => {
            let message = format!("`allowed_hosts` must be a list, not {}", other.kind());
            context.problem(node.at, message, remedy);
            return Vec::new();
        }
    };
    let mut hosts = Vec::new();
    for node in list {
        match &node.value {
            Value::Text(name) if is_host(name) => hosts.push(name.to_ascii_lowercase()),
            _ => {
                let message = "`allowed_hosts` has a value that is not a host name".to_owned();
                context.problem(
                    node.at,
                    message,
                    "write a name and a port, such as \"sniper:8098\"",
                );
            }
        }
    }
    hosts
}

/// Returns `true` for a host name or address with an optional port. A `*` is not one: it would
/// permit DNS rebinding.
fn is_host(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(is_allowed)
}
