//! `verify` on a machine whose clock is set, which sleeps and is started anew, with the issuer out of reach.

use crate::machine::Machine;

/// Tells the verdict after what is said: `granted`, or the codes of the reasons.
const VERDICT: &str = r#"
verdict() {
    codes=$("$AUTHCTL" verify "${2:-work}" --json | grep -o '"code":"[a-z_]*"' | cut -d '"' -f 4 | tr '\n' ' ')
    tell "$1: ${codes:-granted}"
}
"#;

#[test]
fn a_clock_set_back_is_noticed_and_an_honest_machine_is_not_locked_out() {
    let here = tempfile::tempdir().expect("a directory");
    let first = r#"
issuer 2d
log_in work
verdict "at first"
date -s '+1 day'
verdict "a day later"
date -s '-1 day'
verdict "back a day"
date -s '+1 day'
verdict "right again"
date -s '-2 minutes'
verdict "corrected by two minutes"
date -s '+2 minutes'
suspend 600
verdict "after a sleep"
date -s '+2 days'
verdict "when the token is over"
date -s '-2 days'
verdict "back before its end"
date -s '+2 days'
"$AUTHCTL" token > /run/token
verdict "refreshed"
kill %1
date +%s > $HERE/moment
cp -a /run/home $HERE/kept
"#;
    let told = Machine::boots(here.path(), &[VERDICT, first].concat()).wait();
    let expected = [
        "at first: granted",
        "a day later: granted",
        "back a day: clock_rollback ",
        "right again: granted",
        "corrected by two minutes: granted",
        "after a sleep: granted",
        "when the token is over: expired ",
        "back before its end: clock_rollback ",
        "refreshed: granted",
    ];
    assert_eq!(told, expected);

    // Started anew: how long it was off, nobody knows.
    let second = r#"
cp -a $HERE/kept/. /run/home
moment=$(cat $HERE/moment)
date -s @$((moment + 60))
verdict "after a minute off"
date -s @$((moment - 3600))
verdict "an hour before it was switched off"
date -s @$((moment + 3600))
verdict "an hour after"
date -s @$((moment - 3600))
issuer 1h
log_in anew
verdict "an issuer agrees with the clock" anew
"#;
    let told = Machine::boots(here.path(), &[VERDICT, second].concat()).wait();
    let expected = [
        "after a minute off: granted",
        "an hour before it was switched off: not_yet_valid clock_rollback keys_stale ",
        "an hour after: granted",
        "an issuer agrees with the clock: granted",
    ];
    assert_eq!(told, expected);
}
