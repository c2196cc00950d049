//! What people do in the middle of something else: a profile changed, a session damaged, the wrong text pasted.

use crate::support::{Sandbox, issuer};

#[test]
fn a_logout_shows_the_tokens_to_nobody_but_their_issuer() {
    let (ours, other) = (issuer(|_| {}), issuer(|_| {}));
    let home = Sandbox::new();
    home.log_in("work", &ours);
    home.run(&["profile", "set", "work", &format!("issuer={}", other.issuer())]).exits(0);
    home.run(&["logout", "work"]).exits(0).says("the issuer has revoked the tokens");
    assert_eq!(other.stats().requests.values().sum::<u64>(), 0, "{:?}", other.stats().requests);
    assert_eq!(ours.stats().families_revoked, 1);
}
