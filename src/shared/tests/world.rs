//! Members, their ledgers, the network and the database, as a state with actions. Time advances
//! only by an action, so a member without one between two of them is slow or suspended.

use std::collections::BTreeMap;

use crate::shared::{
    database::{Denial, GroupDatabase},
    exchange::{Exchange, Limit, MemberName, Reply},
    member::{Member, MemberSettings, Report, SETTLE_MS, Usage},
    rules::{ProtocolRules, Rule},
};

/// Settings of a world, and the limits of its actions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) rules: ProtocolRules,
    /// Size of the budget that the members share; 0 if there is none.
    pub(super) total: i64,
    /// `true` if the members are standbys of each other.
    pub(super) has_standby: bool,
    pub(super) tick_ms: i64,
    pub(super) term_ms: i64,
    /// Speed of each member's clock, in percent.
    pub(super) rates: [i64; 2],
    pub(super) faults: Faults,
    /// Duration of one [`Action::Silence`].
    pub(super) silence_ms: i64,
    pub(super) now_max_ms: i64,
    /// Actions that lead from a settled world to another start.
    pub(super) start: &'static [Action],
    /// Argument of [`Scope::settled_world`] for the world before `start`.
    pub(super) start_needs: bool,
}

/// Maximum number of each fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Faults {
    /// An exchange without a reply, whose request may arrive later; or a request that arrives
    /// twice.
    pub(super) failures: u8,
    pub(super) crashes: u8,
    /// Clean stops.
    pub(super) stops: u8,
    /// The database loses its last commits, of less than [`SETTLE_MS`].
    pub(super) rollbacks: u8,
    /// The database is restored from a backup of any age.
    pub(super) restores: u8,
    /// The database's clock is set forward by a minute, then back by two.
    pub(super) clock_jumps: u8,
    /// A user releases a member.
    pub(super) releases: u8,
    /// An order is rejected, which frees what it had reserved.
    pub(super) rejections: u8,
    /// Members change how much they want.
    pub(super) needs: u8,
    /// A member is started with an older copy of its ledger.
    pub(super) copies: u8,
    /// A released member is started under another name.
    pub(super) renames: u8,
    /// The machine of a member loses power, and its ledger the orders that were not on its disk.
    pub(super) power_losses: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Tick,
    /// Nothing but the clock moves for [`Scope::silence_ms`].
    Silence,
    /// A whole exchange at once, whose result the ledger then obeys.
    Exchange(usize),
    Begin(usize),
    Arrive(usize),
    /// The request arrives, and a copy of it may arrive later.
    ArriveTwice(usize),
    End(usize),
    Fail(usize),
    /// The request of a failed exchange arrives.
    ArriveLate(usize),
    /// The ledger obeys the member's permission.
    Apply(usize),
    /// The durable limit of the ledger is lowered to the permission that it obeys.
    Sync(usize),
    Spend(usize),
    Reject(usize),
    Need(usize),
    Crash(usize),
    PowerLoss(usize),
    Stop(usize),
    Start(usize),
    /// Copies the ledger.
    Copy(usize),
    StartCopy(usize),
    Rename(usize),
    Backup,
    Restore,
    EndRestored,
    JumpClock,
    Release(usize),
}

impl Action {
    /// Parses an action such as `Tick`, or `Begin0` with the number of a member.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let name = text.trim_end_matches(|char: char| char.is_ascii_digit());
        let of_member: Option<fn(usize) -> Self> = match name {
            "Exchange" => Some(Self::Exchange),
            "Begin" => Some(Self::Begin),
            "Arrive" => Some(Self::Arrive),
            "ArriveTwice" => Some(Self::ArriveTwice),
            "End" => Some(Self::End),
            "Fail" => Some(Self::Fail),
            "ArriveLate" => Some(Self::ArriveLate),
            "Apply" => Some(Self::Apply),
            "Sync" => Some(Self::Sync),
            "Spend" => Some(Self::Spend),
            "Reject" => Some(Self::Reject),
            "Need" => Some(Self::Need),
            "Stop" => Some(Self::Stop),
            "Crash" => Some(Self::Crash),
            "PowerLoss" => Some(Self::PowerLoss),
            "Start" => Some(Self::Start),
            "Copy" => Some(Self::Copy),
            "StartCopy" => Some(Self::StartCopy),
            "Rename" => Some(Self::Rename),
            "Release" => Some(Self::Release),
            _ => None,
        };
        match (of_member, text) {
            (Some(of_member), _) => text[name.len()..].parse().ok().map(of_member),
            (None, "Tick") => Some(Self::Tick),
            (None, "Silence") => Some(Self::Silence),
            (None, "Backup") => Some(Self::Backup),
            (None, "Restore") => Some(Self::Restore),
            (None, "EndRestored") => Some(Self::EndRestored),
            (None, "JumpClock") => Some(Self::JumpClock),
            (None, _) => None,
        }
    }

    pub(super) const fn is_fault(self) -> bool {
        match self {
            Self::Tick
            | Self::Exchange(_)
            | Self::Begin(_)
            | Self::Arrive(_)
            | Self::End(_)
            | Self::ArriveLate(_)
            | Self::Apply(_)
            | Self::Sync(_)
            | Self::Spend(_)
            | Self::Start(_)
            | Self::EndRestored => false,
            Self::Silence
            | Self::ArriveTwice(_)
            | Self::Fail(_)
            | Self::Reject(_)
            | Self::Need(_)
            | Self::Crash(_)
            | Self::PowerLoss(_)
            | Self::Stop(_)
            | Self::Copy(_)
            | Self::StartCopy(_)
            | Self::Rename(_)
            | Self::Backup
            | Self::Restore
            | Self::JumpClock
            | Self::Release(_) => true,
        }
    }
}

/// Permission that a ledger obeys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct AppliedPermission {
    revision: u64,
    slice: i64,
    until_ms: i64,
}

/// Process of a member with its ledger, which survives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) member: Option<Member>,
    /// Value of [`Member::seen`] that the ledger stores.
    seen: u64,
    pub(super) used: i64,
    /// Number of orders in the ledger.
    approved: u64,
    /// Usage and number of orders in an older copy of the ledger.
    copy: Option<(i64, u64)>,
    /// Usage that the ledger does not have.
    lost: i64,
    /// Usage that the ledger would count after a power loss, if it is higher.
    durable: i64,
    /// [`AppliedPermission::revision`] of the last permission that `durable` does not exceed.
    synced: u64,
    renames: usize,
    reserve: i64,
    applied: AppliedPermission,
    request: Option<Exchange>,
    reply: Option<(Exchange, Reply)>,
    /// Request of a failed exchange that may still arrive.
    late: Option<Exchange>,
    /// `true` if the connection is to a database that no longer exists.
    is_cut: bool,
    /// `true` if the member has not reached the restored database yet.
    is_behind: bool,
    clock_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) now_ms: i64,
    database_ahead_ms: i64,
    pub(super) database: GroupDatabase,
    backup: Option<(i64, GroupDatabase)>,
    restored_ms: i64,
    pub(super) nodes: Vec<Node>,
    faults: Faults,
}

pub(super) fn name(index: usize) -> MemberName {
    MemberName(format!("member-{index}"))
}

impl Scope {
    pub(super) fn world(&self) -> World {
        let mut database = GroupDatabase::new(self.total, self.term_ms);
        database.rules = self.rules;
        World {
            now_ms: 0,
            database_ahead_ms: 0,
            database,
            backup: None,
            restored_ms: 0,
            nodes: (0..self.rates.len()).map(|index| self.node(index)).collect(),
            faults: self.faults,
        }
    }

    /// Returns a world in which both members are in contact, and the first has the role, and all
    /// slices if it `needs` them.
    pub(super) fn settled_world(&self, needs: bool) -> World {
        let mut world = self.world();
        if !needs {
            world.nodes.iter_mut().for_each(|node| node.reserve = 0);
        }
        while world.now_ms < self.term_ms + 2 * self.tick_ms {
            for index in 0..world.nodes.len() {
                let action = Action::Exchange(index);
                if self.actions(&world).contains(&action) {
                    world.act(self, action).unwrap();
                }
            }
            world.act(self, Action::Tick).unwrap();
        }
        world
    }

    fn node(&self, index: usize) -> Node {
        Node {
            member: Some(self.member(index, name(index), 0)),
            seen: 0,
            used: 0,
            approved: 0,
            copy: None,
            lost: 0,
            durable: 0,
            synced: 0,
            renames: 0,
            reserve: if index == 0 { self.total } else { 0 },
            applied: AppliedPermission { until_ms: i64::MIN, ..AppliedPermission::default() },
            request: None,
            reply: None,
            late: None,
            is_cut: false,
            is_behind: false,
            clock_ms: 0,
        }
    }

    fn member(&self, index: usize, name: MemberName, seen: u64) -> Member {
        let mut member = Member::new(MemberSettings {
            name,
            ledger: index.to_string(),
            market: "market".to_owned(),
            account: if self.has_standby { "account".to_owned() } else { index.to_string() },
            standby: self.has_standby.then(|| "standby".to_owned()),
            seen,
        });
        member.rules = self.rules;
        member
    }

    /// Returns the actions that are possible now.
    pub(super) fn actions(&self, world: &World) -> Vec<Action> {
        let mut actions = Vec::new();
        let faults = world.faults;
        let must_contact = world.now_ms + self.tick_ms >= world.restored_ms + SETTLE_MS;
        let may_pass = !must_contact || !world.nodes.iter().any(|node| node.is_behind);
        if may_pass && world.now_ms < self.now_max_ms {
            actions.push(Action::Tick);
            if self.silence_ms > 0 && world.now_ms + self.silence_ms <= self.now_max_ms {
                actions.push(Action::Silence);
            }
        }
        for (index, node) in world.nodes.iter().enumerate() {
            self.node_actions(world, index, node, &mut actions);
        }
        if faults.rollbacks + faults.restores > 0 {
            let is_new = world.backup.as_ref().is_none_or(|(_, it)| *it != world.database);
            if is_new && world.nodes.iter().enumerate().all(|(index, _)| world.has_row(index)) {
                actions.push(Action::Backup);
            }
            if world.may_restore() {
                actions.push(Action::Restore);
            }
        }
        if world.database.is_restored() && world.database.clone().end_restored(0).is_ok() {
            actions.push(Action::EndRestored);
        }
        if faults.clock_jumps > 0 {
            actions.push(Action::JumpClock);
        }
        actions
    }

    fn node_actions(&self, world: &World, index: usize, node: &Node, actions: &mut Vec<Action>) {
        let faults = world.faults;
        let Some(member) = &node.member else {
            actions.push(Action::Start(index));
            if node.late.is_some() {
                actions.push(Action::ArriveLate(index));
            }
            if world.may_release(index) {
                actions.push(Action::Release(index));
            }
            if world.may_start_copy(index) {
                actions.push(Action::StartCopy(index));
            }
            if faults.renames > 0 && world.is_released(index) {
                actions.push(Action::Rename(index));
            }
            return;
        };
        let mut offer = |is_possible: bool, action| {
            if is_possible {
                actions.push(action);
            }
        };
        let is_idle = node.request.is_none() && node.reply.is_none();
        let is_due = is_idle && member.clone().next(&node.report(self), node.clock_ms).is_some();
        offer(is_due && !node.is_cut, Action::Exchange(index));
        offer(is_due, Action::Begin(index));
        let may_arrive = node.request.is_some() && !node.is_cut;
        offer(may_arrive, Action::Arrive(index));
        offer(may_arrive && faults.failures > 0, Action::ArriveTwice(index));
        offer(node.reply.is_some(), Action::End(index));
        let is_failing = faults.failures > 0 || node.is_cut;
        offer(!is_idle && is_failing, Action::Fail(index));
        offer(node.late.is_some(), Action::ArriveLate(index));
        let permission = node.permission(member);
        offer(permission != node.applied, Action::Apply(index));
        offer(node.synced != node.applied.revision, Action::Sync(index));
        if self.total > 0 {
            let has_slice = node.used < node.applied.slice && node.clock_ms < node.applied.until_ms;
            offer(has_slice, Action::Spend(index));
            offer(node.used > 0 && faults.rejections > 0, Action::Reject(index));
            offer(faults.needs > 0, Action::Need(index));
            offer(faults.copies > 0 && node.copy.is_none(), Action::Copy(index));
        }
        offer(faults.crashes > 0 && !node.is_behind, Action::Crash(index));
        offer(faults.power_losses > 0, Action::PowerLoss(index));
        offer(faults.stops > 0 && member.clone() != stopped(member), Action::Stop(index));
        offer(world.may_release(index), Action::Release(index));
    }
}

fn stopped(member: &Member) -> Member {
    let mut member = member.clone();
    member.stop();
    member
}

impl Node {
    fn report(&self, scope: &Scope) -> Report {
        let (used, reserve) = (self.used, self.reserve);
        let usage = Usage { used, max: i64::MAX, reserve, is_denied: false };
        let usage = (scope.total > 0).then_some((Limit::Total, usage));
        Report {
            usage: usage.into_iter().collect(),
            orders: Vec::new(),
            in_force: if scope.rules.hold(Rule::DurableFirst) {
                self.synced
            } else {
                self.applied.revision
            },
            can_order: true,
            is_idle: reserve == 0,
            whitelist: 0,
            approved: self.approved,
        }
    }

    fn permission(&self, member: &Member) -> AppliedPermission {
        let permission = member.usable(self.clock_ms);
        AppliedPermission {
            revision: permission.revision,
            slice: permission.slices.get(&Limit::Total).copied().unwrap_or_default(),
            until_ms: permission.until_ms,
        }
    }

    /// Returns the largest usage of the node under the permission that its ledger obeys, or the
    /// next one, or after a power loss.
    pub(super) fn potential(&self) -> i64 {
        let used = self.used.max(self.durable);
        let Some(member) = &self.member else { return used + self.lost };
        let permissions = [self.applied, self.permission(member)];
        let live = permissions.iter().filter(|it| self.clock_ms < it.until_ms);
        live.map(|it| it.slice).fold(used, i64::max) + self.lost
    }

    /// Returns `true` if the role of the node permits orders.
    pub(super) fn is_active(&self) -> bool {
        self.member.as_ref().is_some_and(|member| {
            let until_ms = self.applied.until_ms.max(self.permission(member).until_ms);
            self.clock_ms < until_ms
        })
    }

    fn end(&mut self, exchange: &Exchange, reply: &Reply) {
        if let Some(member) = &mut self.member {
            member.on_reply(exchange, reply, self.clock_ms);
            self.seen = member.seen();
        }
    }

    /// Obeys the member's permission. In a scope with power losses, the durable limit rises to what
    /// it permits; only [`Action::Sync`] lowers it.
    fn obey(&mut self, scope: &Scope) {
        let Some(member) = &self.member else { return };
        self.applied = self.permission(member);
        if scope.faults.power_losses > 0 {
            self.durable = self.durable.max(self.permitted());
        }
        if self.durable <= self.permitted() {
            self.synced = self.applied.revision;
        }
    }

    /// Returns the largest usage that the applied permission allows at any time.
    fn permitted(&self) -> i64 {
        if self.applied.until_ms == i64::MIN {
            self.used
        } else {
            self.used.max(self.applied.slice)
        }
    }

    fn sync(&mut self) {
        self.durable = self.durable.min(self.permitted());
        self.synced = self.applied.revision;
    }

    /// Ends the process.
    fn crash(&mut self) {
        if !self.is_cut {
            self.cut();
        }
        (self.request, self.reply, self.is_cut) = (None, None, false);
        self.member = None;
        self.applied = AppliedPermission { until_ms: i64::MIN, ..AppliedPermission::default() };
        self.synced = 0;
    }

    fn cut(&mut self) {
        self.late = self.late.take().or_else(|| self.request.take());
        self.request = None;
        self.reply = None;
    }
}

impl World {
    /// Returns the current name of a member.
    fn name(&self, index: usize) -> MemberName {
        MemberName(format!("{}{}", name(index).0, "'".repeat(self.nodes[index].renames)))
    }

    fn has_row(&self, index: usize) -> bool {
        self.database.members().contains_key(&self.name(index))
    }

    fn is_released(&self, index: usize) -> bool {
        self.database.members().get(&self.name(index)).is_some_and(|row| row.is_released)
    }

    /// Returns `true` if there is a copy of the ledger that is older than its last contact.
    fn may_start_copy(&self, index: usize) -> bool {
        let of_ledger = self.database.members().values();
        let mut of_ledger = of_ledger.filter(|row| row.ledger == index.to_string());
        let copy = self.nodes[index].copy;
        copy.is_some_and(|(_, approved)| of_ledger.any(|row| approved < row.approved))
    }

    /// Releases a member with the amount that it has spent, and declares correctly whether it runs.
    fn release(&mut self, index: usize) -> Result<(), Denial> {
        let node = &self.nodes[index];
        let spent = BTreeMap::from([(Limit::Total, node.used + node.lost)]);
        let (name, is_stopped) = (self.name(index), node.member.is_none());
        let now_ms = self.now_ms + self.database_ahead_ms;
        self.database.release(now_ms, &name, &spent, is_stopped)
    }

    fn may_release(&self, index: usize) -> bool {
        self.faults.releases > 0 && self.clone().release(index).is_ok()
    }

    /// Returns `true` if the database may lose the commits since the backup: if they are recent, or
    /// a running member has seen them.
    fn may_restore(&self) -> bool {
        let Some((taken_ms, backup)) = &self.backup else { return false };
        if *backup == self.database {
            return false;
        }
        let is_recent = self.now_ms - taken_ms < SETTLE_MS;
        let is_known = self
            .nodes
            .iter()
            .filter_map(|node| node.member.as_ref())
            .any(|member| member.seen() > backup.sequence());
        (self.faults.rollbacks > 0 && is_recent) || (self.faults.restores > 0 && is_known)
    }

    fn restore(&mut self) {
        let Some((taken_ms, backup)) = self.backup.take() else { return };
        let is_rollback = self.faults.rollbacks > 0 && self.now_ms - taken_ms < SETTLE_MS;
        if is_rollback {
            self.faults.rollbacks -= 1;
        } else {
            self.faults.restores -= 1;
        }
        self.database = backup;
        self.restored_ms = self.now_ms;
        for node in &mut self.nodes {
            // The connections end with the server.
            node.request = None;
            node.reply = None;
            node.late = None;
            node.is_cut = node.member.is_some();
            node.is_behind = !is_rollback && node.member.is_some();
        }
    }

    fn tick(&mut self, scope: &Scope, by_ms: i64) {
        self.now_ms += by_ms;
        for (node, rate) in self.nodes.iter_mut().zip(scope.rates) {
            node.clock_ms += by_ms * rate / 100;
        }
    }

    fn apply(&mut self, index: usize, exchange: &Exchange) -> Reply {
        self.nodes[index].is_behind = false;
        let reply = self.database.apply(self.now_ms + self.database_ahead_ms, exchange);
        if self.database.is_restored() {
            // While the database is marked as restored, no slice rises, so the other members may
            // reach it later.
            self.nodes.iter_mut().for_each(|node| node.is_behind = false);
        }
        reply
    }

    fn begin(&mut self, scope: &Scope, index: usize) -> Option<Exchange> {
        let node = &mut self.nodes[index];
        let report = node.report(scope);
        node.member.as_mut()?.next(&report, node.clock_ms)
    }

    /// Carries out an action. Returns `None` if it is not possible.
    pub(super) fn act(&mut self, scope: &Scope, action: Action) -> Option<()> {
        match action {
            Action::Tick => self.tick(scope, scope.tick_ms),
            Action::Silence => self.tick(scope, scope.silence_ms),
            Action::Exchange(index) => {
                let exchange = self.begin(scope, index)?;
                let reply = self.apply(index, &exchange);
                self.nodes[index].end(&exchange, &reply);
                self.nodes[index].obey(scope);
                self.nodes[index].sync();
            }
            Action::Begin(index) => self.nodes[index].request = Some(self.begin(scope, index)?),
            Action::Arrive(index) => {
                let exchange = self.nodes[index].request.take()?;
                let reply = self.apply(index, &exchange);
                self.nodes[index].reply = Some((exchange, reply));
            }
            Action::End(index) => {
                let (exchange, reply) = self.nodes[index].reply.take()?;
                self.nodes[index].end(&exchange, &reply);
            }
            Action::ArriveLate(index) => {
                let exchange = self.nodes[index].late.take()?;
                self.apply(index, &exchange);
            }
            Action::Apply(index) => self.nodes[index].obey(scope),
            Action::Sync(index) => self.nodes[index].sync(),
            Action::Spend(index) => {
                self.nodes[index].used += 1;
                self.nodes[index].approved += 1;
            }
            Action::EndRestored => self.database.end_restored(scope.total).ok()?,
            _ => self.fault(scope, action)?,
        }
        Some(())
    }

    fn fault(&mut self, scope: &Scope, action: Action) -> Option<()> {
        match action {
            Action::Fail(index) => {
                let node = &mut self.nodes[index];
                if !node.is_cut {
                    self.faults.failures -= 1;
                }
                let sent =
                    node.request.as_ref().or(node.reply.as_ref().map(|(it, _)| it)).cloned()?;
                node.member.as_mut()?.on_failure(&sent);
                let is_cut = std::mem::take(&mut node.is_cut);
                node.cut();
                node.late = node.late.take().filter(|_| !is_cut);
            }
            Action::ArriveTwice(index) => {
                self.faults.failures -= 1;
                let node = &mut self.nodes[index];
                node.late.clone_from(&node.request);
                self.act(scope, Action::Arrive(index))?;
            }
            Action::Reject(index) => {
                self.faults.rejections -= 1;
                self.nodes[index].used -= 1;
            }
            Action::Need(index) => {
                self.faults.needs -= 1;
                let node = &mut self.nodes[index];
                node.reserve = if node.reserve > 0 { 0 } else { scope.total };
            }
            Action::Crash(index) => {
                self.faults.crashes -= 1;
                self.nodes[index].crash();
            }
            Action::Stop(index) => {
                self.faults.stops -= 1;
                self.nodes[index].member.as_mut()?.stop();
            }
            Action::Start(index) => {
                let (name, seen) = (self.name(index), self.nodes[index].seen);
                let node = &mut self.nodes[index];
                node.member = Some(scope.member(index, name, seen));
                // A start makes nothing durable but the recorded orders.
                node.durable = 0;
            }
            Action::Backup => self.backup = Some((self.now_ms, self.database.clone())),
            Action::Restore => self.restore(),
            Action::JumpClock => {
                self.faults.clock_jumps -= 1;
                let is_ahead = self.database_ahead_ms > 0;
                self.database_ahead_ms = if is_ahead { -60_000 } else { 60_000 };
            }
            Action::Release(index) => {
                self.faults.releases -= 1;
                self.release(index).ok()?;
            }
            _ => return self.fault_of_ledger(scope, action),
        }
        Some(())
    }

    /// Carries out a fault of the ledger or of the name of a member.
    fn fault_of_ledger(&mut self, scope: &Scope, action: Action) -> Option<()> {
        match action {
            Action::PowerLoss(index) => {
                self.faults.power_losses -= 1;
                let node = &mut self.nodes[index];
                let lost = (node.durable - node.used).max(0);
                node.used += lost;
                node.approved += lost.unsigned_abs();
                node.crash();
            }
            Action::Copy(index) => {
                let node = &mut self.nodes[index];
                node.copy = Some((node.used, node.approved));
            }
            Action::StartCopy(index) => {
                self.faults.copies -= 1;
                let node = &mut self.nodes[index];
                let (used, approved) = node.copy.take()?;
                node.lost += node.used - used;
                (node.used, node.approved) = (used, approved);
                self.act(scope, Action::Start(index))?;
            }
            Action::Rename(index) => {
                self.faults.renames -= 1;
                self.nodes[index].renames += 1;
            }
            _ => return None,
        }
        Some(())
    }

    pub(super) fn is_within(&self, scope: &Scope) -> bool {
        self.nodes.iter().map(Node::potential).sum::<i64>() <= scope.total
    }

    pub(super) fn has_one_active(&self, scope: &Scope) -> bool {
        !scope.has_standby || self.nodes.iter().filter(|node| node.is_active()).count() <= 1
    }
}
