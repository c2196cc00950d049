//! The screen of `authctl verify --explain`.

use crate::app::App;
use crate::cmd::output::{self, Style, StyledLine, wrapped};
use crate::error::Error;
use crate::verify::{CheckResult, Reason, Step};

/// The checks whose names in `--json` are not words.
const WORDS: [(&str, &str); 8] = [
    ("parts", "format"),
    ("typ", "type"),
    ("alg", "algorithm"),
    ("exp", "expiry"),
    ("iss", "issuer"),
    ("aud", "audience"),
    ("sub", "subject"),
    ("revoked", "revocation"),
];

/// The width of the names.
const NAME_WIDTH: usize = 10;

fn word(check: &str) -> &str {
    WORDS.iter().find(|(name, _)| *name == check).map_or(check, |(_, word)| word)
}

/// Prints each check of a valid token, with what was expected and found.
pub(super) fn granted(app: &App, steps: &[Step]) -> Result<(), Error> {
    if !steps.is_empty() {
        output::line("")?;
    }
    steps.iter().try_for_each(|step| print(app, Style::Good, "ok", word(step.check), &step.message))
}

/// Prints why a token is denied: the reasons in a few words, each check that failed, the claims that cannot be trusted, and the
/// checks that passed.
pub(super) fn denied(app: &App, reasons: &[Reason], steps: &[Step]) -> Result<(), Error> {
    let mut codes: Vec<String> = reasons.iter().map(|reason| reason.code.to_string().replace('_', " ")).collect();
    codes.dedup();
    print_wrapped(app, Style::Bad, "DENIED", &format!(" {}", codes.join(", ")), 8)?;
    output::line("")?;
    let of = |outcome: CheckResult| steps.iter().filter(move |step| step.outcome == outcome);
    for step in of(CheckResult::Denied) {
        print(app, Style::Bad, "x", word(step.check), &step.message)?;
    }
    // Those that a reader knows a token by: texts, but no identifier.
    let claims = of(CheckResult::Untrusted).filter(|step| step.is_text && step.check != "jti");
    let claims: Vec<String> = claims.map(|step| format!("{} {}", step.check, step.message)).collect();
    if of(CheckResult::Untrusted).next().is_some() {
        print(app, Style::Warning, "-", "claims", &format!("not trusted: {}", claims.join(", ")))?;
    }
    let passed: Vec<&str> = of(CheckResult::Ok).map(|step| word(step.check)).collect();
    if !passed.is_empty() {
        print_wrapped(app, Style::Good, "ok", &passed.join(", "), 3)?;
    }
    Ok(())
}

fn print(app: &App, style: Style, mark: &str, name: &str, message: &str) -> Result<(), Error> {
    print_wrapped(app, style, mark, &format!("{name:<NAME_WIDTH$} {message}"), mark.len() + NAME_WIDTH + 2)
}

fn print_wrapped(app: &App, style: Style, mark: &str, text: &str, indent: usize) -> Result<(), Error> {
    let lines = wrapped(&format!("{mark} {text}"), indent);
    let rest = lines[0].strip_prefix(mark).unwrap_or(&lines[0]);
    StyledLine::new(app).styled(style, mark).text(rest).print()?;
    lines[1..].iter().try_for_each(|line| output::line(line))
}
