//! `authctl demo`: a session's whole life against the embedded issuer, each step with the command that a user types.

mod agent;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::dev_issuer::random_password;
use super::output;
use crate::app::App;
use crate::clock::{Clock as _, SystemClock};
use crate::dev_issuer::{DevIssuer, Options, User};
use crate::error::{Error, ErrorCode};
use crate::model::{IssuerUrl, TokenTarget};
use crate::oauth::{Client, Http, IssuerError, Metadata, TokenEndpoint, discover, jwks, refresh, userinfo};
use crate::paths::Paths;
use crate::secret::Secret;
use crate::store::{FileStore, KeySource, Store as _};

/// The demo's issuer gives tokens of this life.
const LIFE: Duration = Duration::from_secs(300);

/// The demo's profile.
const PROFILE: &str = "demo";

struct Demo<'a> {
    app: &'a App,
    program: PathBuf,
    /// Home of everything that the demo makes; gone with it.
    scratch: tempfile::TempDir,
    step: u32,
}

/// What a step's command did.
struct Did {
    code: i32,
    stdout: Secret,
    stderr: String,
}

#[derive(Deserialize)]
struct Verdict {
    valid: bool,
    #[serde(default)]
    reasons: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    code: String,
}

/// Runs the command.
#[inline(never)]
pub fn run(app: &App) -> Result<u8, Error> {
    let unexpected =
        |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, "check that the temporary directory can be written");
    let password = random_password()?;
    let options = Options {
        access_token_ttl: LIFE,
        id_token_ttl: LIFE,
        users: vec![User::new("developer", password.clone())],
        ..Options::default()
    };
    let mut issuer = DevIssuer::spawn(options)
        .map_err(|e| Error::new(ErrorCode::Unexpected, e, "check that a port on 127.0.0.1 can be opened"))?;
    let mut demo = Demo {
        app,
        program: std::env::current_exe().map_err(unexpected)?,
        scratch: tempfile::Builder::new().prefix("authctl-demo-").tempdir().map_err(unexpected)?,
        step: 0,
    };
    let bin = demo.scratch.path().join("bin");
    std::fs::create_dir(&bin)
        .and_then(|()| std::os::unix::fs::symlink(&demo.program, bin.join("authctl")))
        .map_err(unexpected)?;
    let lived = demo.life(&mut issuer, &password).and_then(|()| demo.agent(&issuer, &password));
    // Whatever went wrong, no agent is left behind.
    demo.stop_agent();
    lived?;
    demo.say("\nThat was the whole life of a session. Yours begins with:\n\n  authctl login work --issuer https://issuer.example --client-id ID\n")?;
    Ok(0)
}

impl Demo<'_> {
    fn life(&mut self, issuer: &mut DevIssuer, password: &Secret) -> Result<(), Error> {
        self.say(&format!(
            "A session's life, at an issuer that runs inside this program ({}), in a scratch directory.",
            issuer.issuer()
        ))?;

        self.title("Log in, once. The password is typed, or piped as here; it is never in the command line.")?;
        let line = Secret::new(format!("{}\n", password.expose()));
        let login = [
            "login",
            PROFILE,
            "--issuer",
            issuer.issuer(),
            "--client-id",
            "authctl",
            "--store",
            "file",
            "--password",
            "--username",
            "developer",
            "--password-stdin",
        ];
        let did = self.show(&login, Some(&line))?;
        self.expect(did.code == 0, "the login succeeds")?;

        self.title("See how it stands. Nothing is asked of the network.")?;
        let did = self.show(&["status"], None)?;
        self.expect(did.code == 0 && did.stdout.expose().contains("valid for another"), "the session is valid")?;

        self.title("Any script gets a valid token, and nothing else, on stdout.")?;
        let did = self.show(&["token"], None)?;
        let first = Secret::new(did.stdout.expose().trim().to_owned());
        self.expect(did.code == 0 && first.expose().split('.').count() == 3, "a JWT is printed")?;

        let stolen = self.refresh_token()?;
        self.title("The issuer goes away. The token is still checked: signature, issuer, audience, expiry.")?;
        issuer.pause();
        let did = self.show(&["verify"], None)?;
        self.expect(did.code == 0, "it is valid, without the network")?;

        self.title("Somebody changes the token: one letter is enough.")?;
        let did = self.show(&["verify", "-", "--json"], Some(&tampered(&first)))?;
        self.expect(did.code == 4 && did.denied_for("bad_signature"), "it is denied")?;

        self.title("The same token after its end.")?;
        let later = SystemClock.now().plus(LIFE * 2).0.to_string();
        let did = self.show(&["verify", "-", "--json", "--at", &later], Some(&first))?;
        self.expect(did.code == 4 && did.denied_for("expired"), "it is denied")?;

        self.title("Refreshing needs the issuer, which is still away. The session is not lost by it.")?;
        let did = self.show(&["refresh"], None)?;
        self.expect(did.code == 6, "it says so, with exit code 6: try again")?;
        let did = self.run(&["status", "--check"], None)?;
        self.expect(did.code == 0, "the session is still there")?;

        self.title("The issuer is back. Refreshed: a new token, and a new refresh token in place of the old one.")?;
        issuer.resume().map_err(|e| Error::new(ErrorCode::Unexpected, e, "run the demo again"))?;
        let did = self.show(&["refresh"], None)?;
        self.expect(did.code == 0, "the refresh succeeds")?;
        let second = Secret::new(self.run(&["token"], None)?.stdout.expose().trim().to_owned());
        self.expect(second.expose() != first.expose(), "the token is another")?;
        let rotated = self.refresh_token()?;
        self.expect(rotated.expose() != stolen.expose(), "the refresh token is another")?;

        self.title("A thief had copied the old refresh token, and uses it now.")?;
        self.say("  (no authctl command does that; the demo asks the issuer itself)")?;
        let refused = self.steal(issuer.issuer(), &stolen)?;
        self.expect(refused, "the issuer refuses it, and ends the session that it was stolen from")?;
        let did = self.show(&["refresh"], None)?;
        self.expect(did.code == 3, "so authctl asks for a new login, with exit code 3")?;

        self.title("Log in again, and log out: revoked at the issuer, deleted here, denied by `verify` from now on.")?;
        let did = self.show(&login_again(), Some(&line))?;
        self.expect(did.code == 0, "the login succeeds")?;
        let third = Secret::new(self.run(&["token"], None)?.stdout.expose().trim().to_owned());
        let keys = self.scratch.path().join("keys.json");
        let jwks = self.app.run(async {
            let (http, metadata) = reach(issuer.issuer()).await?;
            let source = metadata.jwks_uri.ok_or(IssuerError::Unsupported { what: "jwks_uri" })?;
            Ok(jwks::fetch(&http, &source).await?)
        })?;
        std::fs::write(&keys, jwks).map_err(|e| Error::new(ErrorCode::Unexpected, e, "run the demo again"))?;
        let did = self.show(&["logout"], None)?;
        self.expect(did.code == 0, "the logout succeeds")?;
        let accepted = self.app.run(async {
            let (http, metadata) = reach(issuer.issuer()).await?;
            let userinfo = metadata.userinfo_endpoint.ok_or(IssuerError::Unsupported { what: "userinfo_endpoint" })?;
            Ok(userinfo::fetch(&http, &userinfo, &third).await.is_ok())
        })?;
        self.expect(!accepted, "the issuer no longer accepts the token")?;
        let keys = keys.to_string_lossy().into_owned();
        let check = ["verify", "-", "--json", "--issuer", issuer.issuer(), "--audience", "authctl", "--jwks", &keys];
        let did = self.show(&check, Some(&third))?;
        self.expect(
            did.code == 4 && did.denied_for("revoked"),
            "and neither does `verify`, though it has not expired",
        )?;
        let did = self.show(&["token"], None)?;
        self.expect(did.code == 3, "nobody is logged in")
    }

    /// The refresh token, as a thief with the file and its key would find it.
    fn refresh_token(&self) -> Result<Secret, Error> {
        let lost =
            || Error::msg(ErrorCode::Unexpected, "the demo's session has no refresh token", "run the demo again");
        let paths = Paths::below(self.scratch.path());
        let store = FileStore::new(paths.sessions, KeySource::Default(paths.default_key_file));
        let session = store.read(&PROFILE.parse()?)?.ok_or_else(lost)?;
        session.tokens.refresh_token.ok_or_else(lost)
    }

    /// Uses a refresh token as somebody else would; whether the issuer refused it as it should.
    fn steal(&self, issuer: &str, stolen: &Secret) -> Result<bool, Error> {
        self.app.run(async {
            let (http, metadata) = reach(issuer).await?;
            let client = Client::public("authctl");
            let endpoint = TokenEndpoint::of(&http, &metadata, &client, self.app.clock())?;
            match refresh::request(&endpoint, stolen, &TokenTarget::default()).await {
                Err(IssuerError::Refused(refusal)) => Ok(refusal.ends_session()),
                Err(other) => Err(other.into()),
                Ok(_) => Ok(false),
            }
        })
    }

    /// Shows a command as a user types it, runs it, and shows what it said.
    fn show(&mut self, args: &[&str], stdin: Option<&Secret>) -> Result<Did, Error> {
        let scratch = self.scratch.path().to_string_lossy();
        let word = |arg: &&str| {
            let arg = arg.replace(&*scratch, "$SCRATCH");
            if arg.contains([' ', '"']) { format!("'{arg}'") } else { arg }
        };
        let typed: Vec<String> = args.iter().map(word).collect();
        let piped = if stdin.is_some() { " < ..." } else { "" };
        self.say(&format!("\n  $ {}", self.app.paint(1, &format!("authctl {}{piped}", typed.join(" ")))))?;
        let did = self.run(args, stdin)?;
        let shown = did.stderr.lines().map(str::to_owned);
        for line in did.stdout.expose().lines().map(shorten_token).chain(shown) {
            self.say(&format!("  | {line}"))?;
        }
        if did.code != 0 {
            self.say(&format!("  | (exit code {})", did.code))?;
        }
        Ok(did)
    }

    /// Runs authctl in the scratch directory, with nothing of this process's environment.
    fn run(&self, args: &[&str], stdin: Option<&Secret>) -> Result<Did, Error> {
        let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, "run the demo again");
        let mut child = Command::new(&self.program)
            .args(args)
            .env_clear()
            // What `exec` runs finds this very program.
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.scratch.path().join("bin").display()))
            .envs(Paths::environment_below(self.scratch.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(unexpected)?;
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), stdin) {
            // A command that ends without reading its input has said why.
            let _ = pipe.write_all(text.expose().as_bytes());
        }
        let Output { status, stdout, stderr } = child.wait_with_output().map_err(unexpected)?;
        Ok(Did {
            code: status.code().unwrap_or(1),
            stdout: Secret::new(String::from_utf8_lossy(&stdout).into_owned()),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }

    fn title(&mut self, text: &str) -> Result<(), Error> {
        self.step += 1;
        self.say(&format!("\n{} {text}", self.app.paint(1, &format!("{}.", self.step))))
    }

    fn say(&self, text: &str) -> Result<(), Error> {
        if self.app.common.quiet { Ok(()) } else { output::line(text) }
    }

    /// Shows that what was told is so, or ends the demo.
    fn expect(&self, so: bool, what: &str) -> Result<(), Error> {
        if so {
            return self.say(&format!("  {} {what}", self.app.paint(32, "ok:")));
        }
        Err(Error::msg(
            ErrorCode::Unexpected,
            format!("step {} did not do what it says: {what}", self.step),
            "run `authctl demo` again, and report it if it stays so",
        ))
    }
}

impl Did {
    /// Whether the verdict on stdout has this reason.
    fn denied_for(&self, code: &str) -> bool {
        serde_json::from_str::<Verdict>(self.stdout.expose())
            .is_ok_and(|verdict| !verdict.valid && verdict.reasons.iter().any(|reason| reason.code == code))
    }
}

/// The issuer as anybody reaches it.
async fn reach(issuer: &str) -> Result<(Http, Metadata), Error> {
    let http = Http::new(None)?;
    let metadata = discover(&http, &IssuerUrl::parse(issuer)?).await?;
    Ok((http, metadata))
}

/// The same token with one letter of its subject changed: any letter of the encoded claims could as well leave no JSON.
fn tampered(token: &Secret) -> Secret {
    const SUBJECT: &[u8] = b"\"sub\":\"";
    let mut parts: Vec<String> = token.expose().split('.').map(str::to_owned).collect();
    if let Some(claims) = parts.get_mut(1)
        && let Ok(mut text) = URL_SAFE_NO_PAD.decode(&*claims)
        && let Some(start) = text.windows(SUBJECT.len()).position(|part| part == SUBJECT)
        && let Some(letter) = text.get_mut(start + SUBJECT.len())
    {
        *letter = if *letter == b'A' { b'B' } else { b'A' };
        *claims = URL_SAFE_NO_PAD.encode(&text);
    }
    Secret::new(parts.join("."))
}

/// A token is shown by its beginning.
fn shorten_token(line: &str) -> String {
    if line.len() > 60 && line.starts_with("ey") && line.split('.').count() == 3 {
        format!("{}... (a JWT of {} characters)", &line[..24], line.len())
    } else {
        line.to_owned()
    }
}

fn login_again() -> [&'static str; 6] {
    ["login", PROFILE, "--password", "--username", "developer", "--password-stdin"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tampered_token_has_other_claims_that_are_still_claims() {
        for length in 0..64 {
            let before = format!(r#"{{"jti":"{}","sub":"Abc","exp":1}}"#, "x".repeat(length));
            let token = Secret::new(format!("eyJh.{}.c2ln", URL_SAFE_NO_PAD.encode(&before)));
            let changed = tampered(&token);
            let claims = changed.expose().split('.').nth(1).expect("three parts");
            let after = URL_SAFE_NO_PAD.decode(claims).expect("base64url");
            assert_eq!(String::from_utf8(after).expect("text"), before.replace("Abc", "Bbc"));
        }
    }
}
