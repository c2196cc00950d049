//! Encodings of responses: byte order marks, chunks, sizes around the limit, duplicate members.

use serde_json::json;

use super::{each, edits, log_in, row};
use crate::support::{Sandbox, quick_issuer};

const MIB: usize = 1024 * 1024;

#[test]
fn encoding_does_not_matter_up_to_the_size_limit() {
    let issuer = quick_issuer();
    let mut rows = Vec::new();
    for endpoint in ["metadata", "token", "jwks"] {
        // A receiver may ignore the byte order mark (RFC 8259, section 8.1). Chunks are part of HTTP (RFC 9112, section 7).
        rows.push(row("RFC 8259, section 8.1", endpoint, json!({"byte_order_mark": true}), 0, &["Logged in"]));
        rows.push(row("RFC 9112, section 7.1", endpoint, json!({"chunked": true}), 0, &["Logged in"]));
        let all = json!({"byte_order_mark": true, "chunked": true, "pad_to": 9000, "content_type": "text/plain"});
        rows.push(row("all at once", endpoint, all, 0, &["Logged in"]));
        rows.push(row("RFC 9110, section 12.5.3", endpoint, json!({"deflate": true}), 0, &["Logged in"]));
        let coded = json!({"deflate": true, "chunked": true, "byte_order_mark": true});
        rows.push(row("RFC 9110, section 12.5.3", endpoint, coded, 0, &["Logged in"]));
        rows.push(row("RFC 8259", endpoint, json!({"content_type": ""}), 0, &["Logged in"]));
        let full = if endpoint == "jwks" { 256 * 1024 } else { MIB };
        rows.push(row("the limit", endpoint, json!({"pad_to": full}), 0, &["Logged in"]));
        let beyond = json!({"pad_to": MIB + 1});
        rows.push(row("the limit", endpoint, beyond, 6, &["returned a response of more than 1 MiB", "note:  "]));
    }
    let keys = json!({"pad_to": 256 * 1024 + 1});
    rows.push(row("the limit", "jwks", keys, 6, &["instead of a JWK Set of at most 256 KiB"]));
    each(&issuer, &rows, edits);
}

#[test]
fn compressed_reply_to_a_refresh_is_not_lost() {
    let issuer = quick_issuer();
    let home = Sandbox::new();
    log_in(&home, issuer.issuer(), &[]).exits(0);
    let first = home.token("work");
    edits(&issuer, "token", &json!({"deflate": true}), 0);
    for _ in 0..2 {
        home.run(&["refresh", "work"]).exits(0);
    }
    assert_ne!(home.token("work"), first);
    assert_eq!((issuer.stats().refreshes_committed, issuer.stats().refresh_reuses), (2, 0));
    // One that is larger than the limit only once it is decoded.
    edits(&issuer, "jwks", &json!({"deflate": true, "pad_to": MIB + 1}), 0);
    home.run(&["keys", "update"]).exits(6).reports("content coding `deflate`, which was not offered");
}

#[test]
fn duplicate_member_makes_a_response_invalid() {
    let issuer = quick_issuer();
    let twice = |member: &str| json!({"duplicate": [member]});
    // Names within an object should be unique (RFC 8259, section 4): parsers differ in which duplicate they use.
    let section = "RFC 8259, section 4";
    let token: &[&str] = &["returned a token response with a duplicate"];
    each(
        &issuer,
        &[
            row(section, "token", twice("access_token"), 6, token),
            row(section, "token", twice("refresh_token"), 6, token),
            row(section, "token", twice("id_token"), 6, token),
            row(section, "token", twice("expires_in"), 6, token),
            row(section, "token", twice("token_type"), 6, token),
            row(section, "metadata", twice("issuer"), 6, &["with other JSON instead of authorization server metadata"]),
            row(section, "metadata", twice("token_endpoint"), 6, &["instead of authorization server metadata"]),
            row(section, "jwks", twice("keys"), 6, &["with other JSON instead of a JWK Set of at most 256 KiB"]),
            // Members that authctl does not use may be duplicated.
            row(section, "metadata", twice("claims_supported"), 0, &["Logged in"]),
        ],
        edits,
    );
}
