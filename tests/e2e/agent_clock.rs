//! The agent on a machine whose clock is set while it runs, and which sleeps: nobody asks it for anything.

use crate::machine::Machine;

/// Starts an agent with the one session there is, and hears of its refreshes.
const AGENT: &str = r#"
SOCKET=$XDG_RUNTIME_DIR/authctl/agent.sock
"$AUTHCTL" agent run -vvv 2> /run/agent.log &
comes grep -q listens /run/agent.log
curl -sN --unix-socket "$SOCKET" http://agent/v1/events > /run/events &
comes grep -q listening /run/events
refreshed() { [ "$(grep -c '^event: refreshed' /run/events)" -ge "$1" ]; }
uptime() { cut -d. -f1 /proc/uptime; }
"#;

#[test]
fn a_clock_that_is_set_forward_and_back_is_noticed() {
    let here = tempfile::tempdir().expect("a directory");
    let script = r#"
issuer 1h
log_in work
first=$("$AUTHCTL" token)
date -s '+2 hours'
comes refreshed 1
second=$("$AUTHCTL" token)
[ "$first" != "$second" ] && tell "another token after two hours"
"$AUTHCTL" verify && tell "it is valid"
date -s '-1 day'
comes refreshed 2
third=$("$AUTHCTL" token)
[ "$second" != "$third" ] && tell "another token after the day back"
"#;
    let script = script.replacen("first=", &format!("{AGENT}\nfirst="), 1);
    let told = Machine::boots(here.path(), &script).wait();
    assert_eq!(told, ["another token after two hours", "it is valid", "another token after the day back"]);
}

#[test]
fn a_token_that_ended_while_the_machine_slept_is_refreshed_when_it_wakes() {
    let here = tempfile::tempdir().expect("a directory");
    let script = r#"
issuer 40s
log_in work
first=$("$AUTHCTL" token)
suspend 42
begun=$(uptime)
comes refreshed 1
tell "refreshed after $(($(uptime) - begun))"
second=$("$AUTHCTL" token)
[ "$first" != "$second" ] && tell "another token"
"#;
    let script = script.replacen("first=", &format!("{AGENT}\nfirst="), 1);
    let told = Machine::boots(here.path(), &script).wait();
    let [waited, other] = &told[..] else { panic!("{told:?}") };
    let seconds = waited.strip_prefix("refreshed after ").and_then(|seconds| seconds.parse::<u32>().ok());
    // By a timer that stands still in a sleep it would be some nine seconds at the least.
    assert!(seconds.is_some_and(|seconds| seconds <= 5), "{told:?}");
    assert_eq!(other, "another token");
}
