# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_sniper_global_optspecs
    string join \n live practice resume new-ledger not-counted dashboard explain record for= config= json utc color= h/help V/version
end

function __fish_sniper_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_sniper_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_sniper_using_subcommand
    set -l cmd (__fish_sniper_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c sniper -n "__fish_sniper_needs_command" -l for -d 'Stop after this duration, such as 60s, 5m or 1h30m [default: never]' -r
complete -c sniper -n "__fish_sniper_needs_command" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_needs_command" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_needs_command" -l live -d 'Buy with real money'
complete -c sniper -n "__fish_sniper_needs_command" -l practice -d 'Practice: buy with play money on a simulated market in this process, with the settings of sniper.toml and data of its own'
complete -c sniper -n "__fish_sniper_needs_command" -l resume -d 'Clear halts left by the last run'
complete -c sniper -n "__fish_sniper_needs_command" -l new-ledger -d 'Replace a lost or outdated ledger by a new one; what the account bought in the last 24 hours counts against `total`'
complete -c sniper -n "__fish_sniper_needs_command" -l not-counted -d 'With --new-ledger: do not count earlier purchases; required on a market that cannot list them'
complete -c sniper -n "__fish_sniper_needs_command" -l dashboard -d 'Serve a web page with the state of the bot and its controls, at `listen` of the settings or 127.0.0.1:8098'
complete -c sniper -n "__fish_sniper_needs_command" -l explain -d 'Log each listing that an entry is about but does not match, with the reason'
complete -c sniper -n "__fish_sniper_needs_command" -l record -d 'Also save the raw feed and the reference prices below `SNIPER_DATA`, in recordings/'
complete -c sniper -n "__fish_sniper_needs_command" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_needs_command" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sniper -n "__fish_sniper_needs_command" -s V -l version -d 'Print version'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "run" -d 'Watch the market and buy; without --live, only log what it would buy'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "demo" -d 'Watch the bot buy on a simulated market in this process; costs nothing'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "sim" -d 'Run the simulated market alone, to test the bot from another terminal'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "capture" -d 'Record feeds to disk; public feeds need no settings'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "replay" -d 'Show what the settings would have ordered in a recording, and why not; sends nothing'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "doctor" -d 'Test the settings, connection, account and disk step by step; never buys'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "init" -d 'Ask for the first settings, and write .env and sniper.toml'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "check" -d 'Validate the settings and show them; offline'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "config" -d 'Show the effective settings and where each is set; offline'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "markets" -d 'Show the markets, and what each of them supports'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "prices" -d 'Read the price sources now, and show prices, ages and changes'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "whitelist" -d 'Add, remove, list and pause entries, import them from another tool, or export the whitelist'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "alert" -d 'Send test messages to the alert channels'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "ledger" -d 'Show, correct, export or verify the orders and the budget'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "profit" -d 'Compare what was paid with today\'s prices; offline'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "status" -d 'Show the state of the bot: mode, remaining budget, orders, halts'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "reload" -d 'Apply changed settings to the running bot: whitelist, budget, prices and alerts'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "shared" -d 'Create, show or change the budget that several bots share in PostgreSQL'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "dashboard" -d 'Print the address of the running bot\'s page, with a code that signs a browser in'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "halt" -d 'Stop ordering immediately, also in a running bot; it keeps watching'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "resume" -d 'Resume ordering after a halt'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "health" -d 'Exit with 0 if a bot runs and answers, else with 1; for containers and monitors'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "completions" -d 'Print the script that completes commands and options in a shell'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "man" -d 'Print the manual page'
complete -c sniper -n "__fish_sniper_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand run" -l for -d 'Stop after this duration, such as 60s, 5m or 1h30m [default: never]' -r
complete -c sniper -n "__fish_sniper_using_subcommand run" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand run" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand run" -l live -d 'Buy with real money'
complete -c sniper -n "__fish_sniper_using_subcommand run" -l practice -d 'Practice: buy with play money on a simulated market in this process, with the settings of sniper.toml and data of its own'
complete -c sniper -n "__fish_sniper_using_subcommand run" -l resume -d 'Clear halts left by the last run'
complete -c sniper -n "__fish_sniper_using_subcommand run" -l new-ledger -d 'Replace a lost or outdated ledger by a new one; what the account bought in the last 24 hours counts against `total`'
complete -c sniper -n "__fish_sniper_using_subcommand run" -l not-counted -d 'With --new-ledger: do not count earlier purchases; required on a market that cannot list them'
complete -c sniper -n "__fish_sniper_using_subcommand run" -l dashboard -d 'Serve a web page with the state of the bot and its controls, at `listen` of the settings or 127.0.0.1:8098'
complete -c sniper -n "__fish_sniper_using_subcommand run" -l explain -d 'Log each listing that an entry is about but does not match, with the reason'
complete -c sniper -n "__fish_sniper_using_subcommand run" -l record -d 'Also save the raw feed and the reference prices below `SNIPER_DATA`, in recordings/'
complete -c sniper -n "__fish_sniper_using_subcommand run" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand run" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand run" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand demo" -l market -d 'Simulated market; `sniper markets` lists them' -r
complete -c sniper -n "__fish_sniper_using_subcommand demo" -l for -d 'Duration of the demo' -r
complete -c sniper -n "__fish_sniper_using_subcommand demo" -l rate -d 'Listings per second' -r
complete -c sniper -n "__fish_sniper_using_subcommand demo" -l seed -d 'Seed of the simulated market; the same seed gives the same market' -r
complete -c sniper -n "__fish_sniper_using_subcommand demo" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand demo" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand demo" -l explain -d 'Log each listing that an entry is about but does not match, with the reason'
complete -c sniper -n "__fish_sniper_using_subcommand demo" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand demo" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand demo" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l market -d 'Simulated market; `sniper markets` lists them' -r
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l listen -d 'Address to listen on; port 0 picks a free port' -r
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l rate -d 'Average number of listings per second' -r
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l seed -d 'Seed of the listings and the rival buyers; the same seed gives the same market' -r
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l fault -d 'Inject a fault, always or with a chance: hang, 429:0.1, cut-after-commit:1/5, feed-cut:2%. May be repeated; `--fault list` describes all faults' -r
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l balance -d 'Initial balance of the account' -r
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l for -d 'Stop after this time, such as 60s, 5m or 8h [default: never]' -r
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l no-rivals -d 'Run without rival buyers'
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l suspected-trader -d 'Flag the account as a suspected trader, which may join each listing only a little later'
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l print-whitelist -d 'Print a sniper.toml whose whitelist matches listings of this market, and exit'
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand sim" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand sim" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l out -d 'Directory for the recordings, each in its own subdirectory' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l for -d 'Stop after this duration, such as 60s, 5m or 1h30m [default: never]' -r
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l rotate -d 'Start a new file for each stream after this duration' -r
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l idle -d 'Subscribe again if a busy feed delivers nothing for this long [default: 60s]' -r
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l max-retries -d 'Give up after this many consecutive failures [default: never]' -r
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l url -d 'Record any WebSocket with JSON messages; ws:// only for this machine' -r
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l subscribe -d 'Message to send to --url after connecting; repeatable' -r
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l binance-perp-public -d 'Address of the book tickers and depth of perpetuals' -r
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l binance-perp-market -d 'Address of the mark prices of perpetuals' -r
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l binance-spot -d 'Address of the spot streams' -r
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l compress -d 'Compress with zstd'
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand capture" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand capture" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand replay" -l prices -d 'Folder with stored price tables, or the file of the only source, instead of the recorded prices' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand replay" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand replay" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand replay" -l all -d 'Show every listing that an entry could be about, also those of other categories or variants'
complete -c sniper -n "__fish_sniper_using_subcommand replay" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand replay" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand replay" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand doctor" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand doctor" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand doctor" -l latency -d 'Only measure the latency of each address of the market\'s servers'
complete -c sniper -n "__fish_sniper_using_subcommand doctor" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand doctor" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand init" -l market -d 'Market to trade on; `sniper markets` lists them' -r
complete -c sniper -n "__fish_sniper_using_subcommand init" -l session-file -l key-file -d 'File with the session cookie as copied from the browser, or with the API key of the market; `-` reads standard input' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand init" -l trade-url-file -d 'File with the trade URL of the Steam account that receives the items' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand init" -l user-id -d 'Number of the account at the market' -r
complete -c sniper -n "__fish_sniper_using_subcommand init" -l total -d 'Budget: amount to spend in all' -r
complete -c sniper -n "__fish_sniper_using_subcommand init" -l max-price -d 'Maximum price of one order' -r
complete -c sniper -n "__fish_sniper_using_subcommand init" -l min-balance -d 'Balance that no order may go below' -r
complete -c sniper -n "__fish_sniper_using_subcommand init" -l item -d 'First item of the whitelist' -r
complete -c sniper -n "__fish_sniper_using_subcommand init" -l entry-max-price -d 'Maximum price of that item' -r
complete -c sniper -n "__fish_sniper_using_subcommand init" -l max-percent -d 'Maximum percentage of that item\'s price on Buff163' -r
complete -c sniper -n "__fish_sniper_using_subcommand init" -l coin-usd -d 'Dollars that a coin is worth, for --max-percent' -r
complete -c sniper -n "__fish_sniper_using_subcommand init" -l max-quantity -d 'Maximum number of that item' -r
complete -c sniper -n "__fish_sniper_using_subcommand init" -l name -d 'Name of the whitelist entry [default: the words of its item]' -r
complete -c sniper -n "__fish_sniper_using_subcommand init" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand init" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand init" -l guest -d 'Write no session cookie or key: a dry run connects as a guest'
complete -c sniper -n "__fish_sniper_using_subcommand init" -l yes -d 'Ask nothing: use the default of what is not given'
complete -c sniper -n "__fish_sniper_using_subcommand init" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand init" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand init" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand check" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand check" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand check" -l live -d 'Also check the requirements of `run --live`'
complete -c sniper -n "__fish_sniper_using_subcommand check" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand check" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand check" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand config; and not __fish_seen_subcommand_from show help" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand config; and not __fish_seen_subcommand_from show help" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand config; and not __fish_seen_subcommand_from show help" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand config; and not __fish_seen_subcommand_from show help" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand config; and not __fish_seen_subcommand_from show help" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand config; and not __fish_seen_subcommand_from show help" -f -a "show" -d 'Print each effective setting with the line that sets it, and when `.env` was changed; shows no secret'
complete -c sniper -n "__fish_sniper_using_subcommand config; and not __fish_seen_subcommand_from show help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand config; and __fish_seen_subcommand_from show" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand config; and __fish_seen_subcommand_from show" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand config; and __fish_seen_subcommand_from show" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand config; and __fish_seen_subcommand_from show" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "show" -d 'Print each effective setting with the line that sets it, and when `.env` was changed; shows no secret'
complete -c sniper -n "__fish_sniper_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand markets" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand markets" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand markets" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand markets" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand markets" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and not __fish_seen_subcommand_from update show status diff help" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand prices; and not __fish_seen_subcommand_from update show status diff help" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand prices; and not __fish_seen_subcommand_from update show status diff help" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and not __fish_seen_subcommand_from update show status diff help" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and not __fish_seen_subcommand_from update show status diff help" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and not __fish_seen_subcommand_from update show status diff help" -f -a "update" -d 'Read the sources now; without names: all of them'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and not __fish_seen_subcommand_from update show status diff help" -f -a "show" -d 'Show the prices of an item'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and not __fish_seen_subcommand_from update show status diff help" -f -a "status" -d 'Show the number of items and the age of each source'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and not __fish_seen_subcommand_from update show status diff help" -f -a "diff" -d 'Compare a rejected table with the last good one, or the last good one with the one before'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and not __fish_seen_subcommand_from update show status diff help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from update" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from update" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from update" -l accept -d 'Accept a table that differs too much from the last good one'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from update" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from update" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from update" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from show" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from show" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from show" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from show" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from status" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from status" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from status" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from status" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from diff" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from diff" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from diff" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from diff" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from help" -f -a "update" -d 'Read the sources now; without names: all of them'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show the prices of an item'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from help" -f -a "status" -d 'Show the number of items and the age of each source'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from help" -f -a "diff" -d 'Compare a rejected table with the last good one, or the last good one with the one before'
complete -c sniper -n "__fish_sniper_using_subcommand prices; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -f -a "import" -d 'Read entries from a CSV or JSON file; without --write, only show what would change'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -f -a "export" -d 'Print the whitelist as JSON'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -f -a "add" -d 'Add an entry to sniper.toml, whose comments stay'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -f -a "remove" -d 'Remove an entry from sniper.toml'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -f -a "list" -d 'Show each entry and group with what it has bought and may still buy'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -f -a "pause" -d 'Stop buying by an entry or a group, now or in the next run; it buys nothing until it is enabled'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -f -a "enable" -d 'Buy by a paused entry or group again'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -f -a "suggest" -d 'Show which items a recording listed below a share of their reference, how often, and at what expected margin'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and not __fish_seen_subcommand_from import export add remove list pause enable suggest help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from import" -l write -d 'JSON whitelist that receives the entries, which `whitelist_file` can name' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from import" -l max-price -d '`max_price` of rows without a price' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from import" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from import" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from import" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from import" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from export" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from export" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from export" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from export" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l name -d 'Name of the entry; by default the words of the item, such as ak-47-redline' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l wear -d 'Wears, such as FN,MW' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l float-min -d 'Minimum float' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l float-max -d 'Maximum float' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l min-price -d 'Minimum price, against faulty listings' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l max-price -d 'Maximum price' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l max-markup-percent -d 'Maximum markup over the market\'s own price' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l max-quantity -d 'Maximum number bought in all [default: 1]' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l max-total -d 'Maximum spent on this entry in all' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l max-age-s -d 'Maximum age of a listing from before the bot was connected' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l max-percent -d 'Maximum share of the reference price' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l reference -d 'Reference prices, such as buff.bid' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l reference-rule -d 'Which of several reference prices counts' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l min-count -d 'Minimum number of offers behind a reference price' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l min-reference -d 'Minimum reference price' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l category -d 'Categories, such as knife,gloves' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l rarity -d 'Rarities as the market names them' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l exclude -d 'Names to leave out, such as "* | Safari Mesh"; repeat the option for several' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l group -d 'Group, which [groups.GROUP] of sniper.toml limits' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l stattrak -d 'Buy StatTrak items instead of those without it'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l souvenir -d 'Buy Souvenir items instead of others'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from remove" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from remove" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from remove" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from remove" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from list" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from list" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from list" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from list" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from pause" -l group -d 'Every entry of this group' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from pause" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from pause" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from pause" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from pause" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from pause" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from enable" -l group -d 'Every entry of this group' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from enable" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from enable" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from enable" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from enable" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from enable" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from suggest" -l percent -d 'Highest price, in percent of the reference' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from suggest" -l budget -d 'Coins to divide among the items' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from suggest" -l recording -d 'Directory of one session [default: the newest one of `sniper run --record`]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from suggest" -l prices -d 'File with prices, as kind "file" reads, or folder with stored tables, instead of the recorded prices' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from suggest" -l unit -d 'Unit of a file with prices: usd, cents or coins' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from suggest" -l reference -d 'Reference, such as buff.bid, or file.ask with a file [default: the bid of the first source, or its ask]' -r
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from suggest" -l write -d 'CSV file that receives the items within the budget, for `sniper whitelist import`' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from suggest" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from suggest" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from suggest" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from suggest" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from suggest" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from help" -f -a "import" -d 'Read entries from a CSV or JSON file; without --write, only show what would change'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from help" -f -a "export" -d 'Print the whitelist as JSON'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from help" -f -a "add" -d 'Add an entry to sniper.toml, whose comments stay'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Remove an entry from sniper.toml'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from help" -f -a "list" -d 'Show each entry and group with what it has bought and may still buy'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from help" -f -a "pause" -d 'Stop buying by an entry or a group, now or in the next run; it buys nothing until it is enabled'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from help" -f -a "enable" -d 'Buy by a paused entry or group again'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from help" -f -a "suggest" -d 'Show which items a recording listed below a share of their reference, how often, and at what expected margin'
complete -c sniper -n "__fish_sniper_using_subcommand whitelist; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand alert; and not __fish_seen_subcommand_from test help" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand alert; and not __fish_seen_subcommand_from test help" -f -a "test" -d 'Send one loud and one silent message to each channel, and print what came back'
complete -c sniper -n "__fish_sniper_using_subcommand alert; and not __fish_seen_subcommand_from test help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand alert; and __fish_seen_subcommand_from test" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand alert; and __fish_seen_subcommand_from test" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand alert; and __fish_seen_subcommand_from test" -l all -d 'Send an example of every event, as loud as the settings say, at the rate of each channel'
complete -c sniper -n "__fish_sniper_using_subcommand alert; and __fish_seen_subcommand_from test" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand alert; and __fish_seen_subcommand_from test" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand alert; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand alert; and __fish_seen_subcommand_from help" -f -a "test" -d 'Send one loud and one silent message to each channel, and print what came back'
complete -c sniper -n "__fish_sniper_using_subcommand alert; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and not __fish_seen_subcommand_from list show export verify resolve new-budget help" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and not __fish_seen_subcommand_from list show export verify resolve new-budget help" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and not __fish_seen_subcommand_from list show export verify resolve new-budget help" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and not __fish_seen_subcommand_from list show export verify resolve new-budget help" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and not __fish_seen_subcommand_from list show export verify resolve new-budget help" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and not __fish_seen_subcommand_from list show export verify resolve new-budget help" -f -a "list" -d 'Print one line per order: time, state, price, item, float, entry, reference'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and not __fish_seen_subcommand_from list show export verify resolve new-budget help" -f -a "show" -d 'Show everything recorded about one order'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and not __fish_seen_subcommand_from list show export verify resolve new-budget help" -f -a "export" -d 'Print every approved order as CSV, or as JSON with --json'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and not __fish_seen_subcommand_from list show export verify resolve new-budget help" -f -a "verify" -d 'Check every record and every total; exits with 0 only if the ledger is consistent'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and not __fish_seen_subcommand_from list show export verify resolve new-budget help" -f -a "resolve" -d 'Record the outcome of an unknown or returning order, after checking the market'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and not __fish_seen_subcommand_from list show export verify resolve new-budget help" -f -a "new-budget" -d 'Start a new budget: `total` counts from 0 again'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and not __fish_seen_subcommand_from list show export verify resolve new-budget help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from list" -l since -d 'Only orders of the last days or hours, such as 7d or 12h [default: all]' -r
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from list" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from list" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from list" -l csv -d 'Print CSV, even with --json'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from list" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from list" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from show" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from show" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from show" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from show" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from export" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from export" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from export" -l csv -d 'Print CSV (the default), even with --json'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from export" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from export" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from verify" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from verify" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from verify" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from verify" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from resolve" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from resolve" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from resolve" -l bought -d 'The order was bought'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from resolve" -l not-bought -d 'The order was not bought; its coins are available again'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from resolve" -l returned -d 'The purchase was cancelled, and its coins are back'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from resolve" -l yes -d 'Do not ask for confirmation'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from resolve" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from resolve" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from resolve" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from new-budget" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from new-budget" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from new-budget" -l yes -d 'Do not ask for confirmation'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from new-budget" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from new-budget" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from new-budget" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from help" -f -a "list" -d 'Print one line per order: time, state, price, item, float, entry, reference'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show everything recorded about one order'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from help" -f -a "export" -d 'Print every approved order as CSV, or as JSON with --json'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from help" -f -a "verify" -d 'Check every record and every total; exits with 0 only if the ledger is consistent'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from help" -f -a "resolve" -d 'Record the outcome of an unknown or returning order, after checking the market'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from help" -f -a "new-budget" -d 'Start a new budget: `total` counts from 0 again'
complete -c sniper -n "__fish_sniper_using_subcommand ledger; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand profit" -l since -d 'Only orders of the last days or hours, such as 30d or 12h [default: all]' -r
complete -c sniper -n "__fish_sniper_using_subcommand profit" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand profit" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand profit" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand profit" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand profit" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand status" -l watch -d 'Print the status again and again, every two seconds or at another interval, until Ctrl-C' -r
complete -c sniper -n "__fish_sniper_using_subcommand status" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand status" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand status" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand status" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand status" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand reload" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand reload" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand reload" -l new-entries -d 'Count changed entries without a name from zero'
complete -c sniper -n "__fish_sniper_using_subcommand reload" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand reload" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand reload" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and not __fish_seen_subcommand_from init status set release help" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand shared; and not __fish_seen_subcommand_from init status set release help" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand shared; and not __fish_seen_subcommand_from init status set release help" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and not __fish_seen_subcommand_from init status set release help" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and not __fish_seen_subcommand_from init status set release help" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and not __fish_seen_subcommand_from init status set release help" -f -a "init" -d 'Create the tables and the group of the settings, unless they exist'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and not __fish_seen_subcommand_from init status set release help" -f -a "status" -d 'Show the members: last contact, slice, used, and who is active since when'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and not __fish_seen_subcommand_from init status set release help" -f -a "set" -d 'Write `total` of the settings into the database'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and not __fish_seen_subcommand_from init status set release help" -f -a "release" -d 'Release a member that is gone; without --spent, only show what is known about it'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and not __fish_seen_subcommand_from init status set release help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from init" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from init" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from init" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from init" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from status" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from status" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from status" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from status" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from set" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from set" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from set" -l restored -d 'Also go on after the database was restored from a backup, when all members have reported'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from set" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from set" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from release" -l spent -d 'Amount that the member spent of the total, in the unit of the group; the rest becomes free' -r
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from release" -l used -d 'Number of another limit that the member used, as `shared status --json` names it' -r
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from release" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from release" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from release" -l stopped -d 'Declare that the process of the member does not run'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from release" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from release" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from release" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from help" -f -a "init" -d 'Create the tables and the group of the settings, unless they exist'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from help" -f -a "status" -d 'Show the members: last contact, slice, used, and who is active since when'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from help" -f -a "set" -d 'Write `total` of the settings into the database'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from help" -f -a "release" -d 'Release a member that is gone; without --spent, only show what is known about it'
complete -c sniper -n "__fish_sniper_using_subcommand shared; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand dashboard" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand dashboard" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand dashboard" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand dashboard" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand dashboard" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand halt" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand halt" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand halt" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand halt" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand halt" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand resume" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand resume" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand resume" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand resume" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand resume" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand health" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand health" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand health" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand health" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand health" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand completions" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand completions" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand completions" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand completions" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand completions" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand man" -l config -d 'Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]' -r -F
complete -c sniper -n "__fish_sniper_using_subcommand man" -l color -d 'Colors: on terminals without `NO_COLOR`, always, or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c sniper -n "__fish_sniper_using_subcommand man" -l json -d 'Print one JSON object as the last line of stdout, and log to stderr'
complete -c sniper -n "__fish_sniper_using_subcommand man" -l utc -d 'Show times in UTC, also on a terminal'
complete -c sniper -n "__fish_sniper_using_subcommand man" -s h -l help -d 'Print help'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "run" -d 'Watch the market and buy; without --live, only log what it would buy'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "demo" -d 'Watch the bot buy on a simulated market in this process; costs nothing'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "sim" -d 'Run the simulated market alone, to test the bot from another terminal'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "capture" -d 'Record feeds to disk; public feeds need no settings'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "replay" -d 'Show what the settings would have ordered in a recording, and why not; sends nothing'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "doctor" -d 'Test the settings, connection, account and disk step by step; never buys'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "init" -d 'Ask for the first settings, and write .env and sniper.toml'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "check" -d 'Validate the settings and show them; offline'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "config" -d 'Show the effective settings and where each is set; offline'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "markets" -d 'Show the markets, and what each of them supports'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "prices" -d 'Read the price sources now, and show prices, ages and changes'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "whitelist" -d 'Add, remove, list and pause entries, import them from another tool, or export the whitelist'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "alert" -d 'Send test messages to the alert channels'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "ledger" -d 'Show, correct, export or verify the orders and the budget'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "profit" -d 'Compare what was paid with today\'s prices; offline'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "status" -d 'Show the state of the bot: mode, remaining budget, orders, halts'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "reload" -d 'Apply changed settings to the running bot: whitelist, budget, prices and alerts'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "shared" -d 'Create, show or change the budget that several bots share in PostgreSQL'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "dashboard" -d 'Print the address of the running bot\'s page, with a code that signs a browser in'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "halt" -d 'Stop ordering immediately, also in a running bot; it keeps watching'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "resume" -d 'Resume ordering after a halt'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "health" -d 'Exit with 0 if a bot runs and answers, else with 1; for containers and monitors'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "completions" -d 'Print the script that completes commands and options in a shell'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "man" -d 'Print the manual page'
complete -c sniper -n "__fish_sniper_using_subcommand help; and not __fish_seen_subcommand_from run demo sim capture replay doctor init check config markets prices whitelist alert ledger profit status reload shared dashboard halt resume health completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "show" -d 'Print each effective setting with the line that sets it, and when `.env` was changed; shows no secret'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from prices" -f -a "update" -d 'Read the sources now; without names: all of them'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from prices" -f -a "show" -d 'Show the prices of an item'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from prices" -f -a "status" -d 'Show the number of items and the age of each source'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from prices" -f -a "diff" -d 'Compare a rejected table with the last good one, or the last good one with the one before'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from whitelist" -f -a "import" -d 'Read entries from a CSV or JSON file; without --write, only show what would change'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from whitelist" -f -a "export" -d 'Print the whitelist as JSON'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from whitelist" -f -a "add" -d 'Add an entry to sniper.toml, whose comments stay'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from whitelist" -f -a "remove" -d 'Remove an entry from sniper.toml'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from whitelist" -f -a "list" -d 'Show each entry and group with what it has bought and may still buy'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from whitelist" -f -a "pause" -d 'Stop buying by an entry or a group, now or in the next run; it buys nothing until it is enabled'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from whitelist" -f -a "enable" -d 'Buy by a paused entry or group again'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from whitelist" -f -a "suggest" -d 'Show which items a recording listed below a share of their reference, how often, and at what expected margin'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from alert" -f -a "test" -d 'Send one loud and one silent message to each channel, and print what came back'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from ledger" -f -a "list" -d 'Print one line per order: time, state, price, item, float, entry, reference'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from ledger" -f -a "show" -d 'Show everything recorded about one order'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from ledger" -f -a "export" -d 'Print every approved order as CSV, or as JSON with --json'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from ledger" -f -a "verify" -d 'Check every record and every total; exits with 0 only if the ledger is consistent'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from ledger" -f -a "resolve" -d 'Record the outcome of an unknown or returning order, after checking the market'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from ledger" -f -a "new-budget" -d 'Start a new budget: `total` counts from 0 again'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from shared" -f -a "init" -d 'Create the tables and the group of the settings, unless they exist'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from shared" -f -a "status" -d 'Show the members: last contact, slice, used, and who is active since when'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from shared" -f -a "set" -d 'Write `total` of the settings into the database'
complete -c sniper -n "__fish_sniper_using_subcommand help; and __fish_seen_subcommand_from shared" -f -a "release" -d 'Release a member that is gone; without --spent, only show what is known about it'
