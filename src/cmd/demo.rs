//! `authctl demo`: the commands of a session's lifecycle, run against the embedded issuer and checked at each step.

mod agent;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::dev_issuer::random_password;
use super::output::{self, Style, StyledLine};
use crate::app::App;
use crate::clock::{Clock as _, SystemClock};
use crate::dev_issuer::{DevIssuer, Options, User};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{IssuerUrl, TokenTarget};
use crate::oauth::{Http, IssuerError, Metadata, OAuthClient, TokenEndpoint, discover, jwks, refresh_token, userinfo};
use crate::paths::Paths;
use crate::secret::Secret;
use crate::store::{FileStore, KeySource, Store as _};
use crate::verify::{ReasonCode, ReceivedVerdict};

/// The lifetime of the access tokens.
const TOKEN_TTL: Duration = Duration::from_secs(300);

/// The demo's profile.
const PROFILE: &str = "demo";

struct Demo<'a> {
    app: &'a App,
    program: PathBuf,
    /// The directory of everything that the demo writes; removed when it is dropped.
    scratch: tempfile::TempDir,
    step: u32,
}

/// The output of a command.
struct CommandOutput {
    code: i32,
    stdout: Secret,
    stderr: String,
}

/// Runs the command.
pub fn run(app: &App) -> Result<u8, Error> {
    let unexpected =
        |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::shell("ls -ld \"${TMPDIR:-/tmp}\""));
    let password = random_password()?;
    let options = Options {
        access_token_ttl: TOKEN_TTL,
        id_token_ttl: TOKEN_TTL,
        users: vec![User::new("developer", password.clone())],
        ..Options::default()
    };
    let mut issuer = DevIssuer::spawn(options)
        .map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::advice("let programs open a port on 127.0.0.1")))?;
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
    let result = demo.run_session(&mut issuer, &password).and_then(|()| demo.run_agent(&issuer, &password));
    // After an error too, so that no agent is left running.
    demo.stop_agent();
    result?;
    demo.print("")?;
    demo.print("That is the lifecycle of a session. To start your own, run `authctl login`.")?;
    Ok(0)
}

impl Demo<'_> {
    /// Logs in, verifies, refreshes and logs out.
    fn run_session(&mut self, issuer: &mut DevIssuer, password: &Secret) -> Result<(), Error> {
        self.print(&format!(
            "This demo runs authctl in a temporary directory, against its own issuer at {}",
            issuer.issuer()
        ))?;

        self.title("Log in. The password is typed or read from stdin, never an argument.")?;
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
        let output = self.show(&login, Some(&line))?;
        self.expect(output.code == 0, "the login succeeds")?;

        self.title("Show the status. This uses no network.")?;
        let output = self.show(&["status"], None)?;
        self.expect(output.code == 0 && output.stdout.expose().contains("signed in"), "the session is valid")?;

        self.title("Get a token. A script reads it from stdout.")?;
        let output = self.show(&["token"], None)?;
        let first = Secret::new(output.stdout.expose().trim().to_owned());
        self.expect(output.code == 0 && first.expose().split('.').count() == 3, "a JWT is printed")?;

        let old_refresh_token = self.refresh_token()?;
        self.title("Stop the issuer and verify the token without network access.")?;
        issuer.pause();
        let output = self.show(&["verify"], None)?;
        self.expect(output.code == 0, "signature, issuer, audience and expiry are valid")?;

        self.title("Change one letter of the token. It is denied.")?;
        let output = self.show(&["verify", "-", "--json"], Some(&tamper(&first)))?;
        self.expect(output.code == 4 && output.denied_for(ReasonCode::InvalidSignature), "the token is denied")?;

        self.title("Verify the same token at a time after its expiry.")?;
        let later = SystemClock.now().plus(TOKEN_TTL * 2).0.to_string();
        let output = self.show(&["verify", "-", "--json", "--at", &later], Some(&first))?;
        self.expect(output.code == 4 && output.denied_for(ReasonCode::Expired), "the token is denied")?;

        self.title("Refresh while the issuer is unreachable. The session is preserved.")?;
        let output = self.show(&["refresh"], None)?;
        self.expect(output.code == 6, "the command fails with exit code 6: issuer unreachable")?;
        let output = self.run(&["status", "--check"], None)?;
        self.expect(output.code == 0, "the session is still valid")?;

        self.title("Start the issuer and refresh: a new access token and a new refresh token.")?;
        issuer.resume().map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::command("demo")))?;
        let output = self.show(&["refresh"], None)?;
        self.expect(output.code == 0, "the refresh succeeds")?;
        let second = Secret::new(self.run(&["token"], None)?.stdout.expose().trim().to_owned());
        self.expect(second.expose() != first.expose(), "the access token is new")?;
        let rotated = self.refresh_token()?;
        self.expect(rotated.expose() != old_refresh_token.expose(), "the refresh token is new")?;

        self.title("Use the old refresh token again, as someone who has stolen a copy would.")?;
        self.print("  (authctl has no command for this; the demo sends the request itself)")?;
        let refused = self.is_rejected(issuer.issuer(), &old_refresh_token)?;
        self.expect(refused, "the issuer rejects it and revokes the session")?;
        let output = self.show(&["refresh"], None)?;
        self.expect(output.code == 3, "the command fails with exit code 3: login required")?;

        self.title("Log in again and log out. The tokens are revoked, and `verify` denies them.")?;
        let output = self.show(&login_again(), Some(&line))?;
        self.expect(output.code == 0, "the login succeeds")?;
        let third = Secret::new(self.run(&["token"], None)?.stdout.expose().trim().to_owned());
        let keys = self.scratch.path().join("keys.json");
        let jwks = self.app.run(async {
            let (http, metadata) = connect(issuer.issuer()).await?;
            let source = metadata.jwks_uri.ok_or(IssuerError::Unsupported { what: "jwks_uri" })?;
            Ok(jwks::fetch(&http, &source).await?)
        })?;
        std::fs::write(&keys, jwks).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::command("demo")))?;
        let output = self.show(&["logout"], None)?;
        self.expect(output.code == 0, "the logout succeeds")?;
        let accepted = self.app.run(async {
            let (http, metadata) = connect(issuer.issuer()).await?;
            let userinfo = metadata.userinfo_endpoint.ok_or(IssuerError::Unsupported { what: "userinfo_endpoint" })?;
            Ok(userinfo::fetch(&http, &userinfo, &third, None).await.is_ok())
        })?;
        self.expect(!accepted, "the issuer does not accept the token any more")?;
        let keys = keys.to_string_lossy().into_owned();
        let check = ["verify", "-", "--json", "--issuer", issuer.issuer(), "--audience", "authctl", "--jwks", &keys];
        let output = self.show(&check, Some(&third))?;
        self.expect(
            output.code == 4 && output.denied_for(ReasonCode::Revoked),
            "`verify` denies it too, although it has not expired",
        )?;
        let output = self.show(&["token"], None)?;
        self.expect(output.code == 3, "the profile is logged out")
    }

    /// Reads the refresh token from the store.
    fn refresh_token(&self) -> Result<Secret, Error> {
        let missing =
            || Error::msg(ErrorCode::Unexpected, "the demo's session has no refresh token", Hint::command("demo"));
        let paths = Paths::below(self.scratch.path());
        let store = FileStore::new(paths.sessions, KeySource::Default(paths.default_key_file));
        let session = store.read(&PROFILE.parse()?)?.ok_or_else(missing)?;
        session.tokens.refresh_token.ok_or_else(missing)
    }

    /// Sends a refresh token to the issuer and returns whether the issuer rejected it and ended the session.
    fn is_rejected(&self, issuer: &str, refresh_token: &Secret) -> Result<bool, Error> {
        self.app.run(async {
            let (http, metadata) = connect(issuer).await?;
            let client = OAuthClient::public("authctl");
            let endpoint = TokenEndpoint::of(&http, &metadata, &client, self.app.clock())?;
            match refresh_token::request(&endpoint, refresh_token, &TokenTarget::default(), &[]).await {
                Err(IssuerError::Refused(refusal)) => Ok(refusal.ends_session()),
                Err(other) => Err(other.into()),
                Ok(_) => Ok(false),
            }
        })
    }

    /// Prints a command as typed, runs it, and prints its output.
    fn show(&mut self, args: &[&str], stdin: Option<&Secret>) -> Result<CommandOutput, Error> {
        let scratch = self.scratch.path().to_string_lossy();
        let quote = |arg: &&str| {
            let arg = arg.replace(&*scratch, "$SCRATCH");
            if arg.contains([' ', '"']) { format!("'{arg}'") } else { arg }
        };
        let typed = wrap_command(args.iter().map(quote));
        let piped = if stdin.is_some() { " < ..." } else { "" };
        self.print("")?;
        for (index, line) in format!("authctl {typed}{piped}").lines().enumerate() {
            self.print_styled(if index == 0 { "  $ " } else { "" }, Style::Bold, line, "")?;
        }
        let output = self.run(args, stdin)?;
        let shown = output.stderr.lines().map(str::to_owned);
        for line in output.stdout.expose().lines().map(shorten_token).chain(shown) {
            self.print(format!("  | {line}").trim_end())?;
        }
        if output.code != 0 {
            self.print(&format!("  | (exit code {})", output.code))?;
        }
        Ok(output)
    }

    /// Runs authctl in the scratch directory, with nothing of this process's environment.
    fn run(&self, args: &[&str], stdin: Option<&Secret>) -> Result<CommandOutput, Error> {
        let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::command("demo"));
        let mut child = Command::new(&self.program)
            .args(args)
            .env_clear()
            // Programs started by `exec` must find this authctl.
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.scratch.path().join("bin").display()))
            .envs(Paths::environment_below(self.scratch.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(unexpected)?;
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), stdin) {
            // A command that exits without reading its input reports the reason.
            let _ = pipe.write_all(text.expose().as_bytes());
        }
        let Output { status, stdout, stderr } = child.wait_with_output().map_err(unexpected)?;
        Ok(CommandOutput {
            code: status.code().unwrap_or(1),
            stdout: Secret::new(String::from_utf8_lossy(&stdout).into_owned()),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }

    fn title(&mut self, text: &str) -> Result<(), Error> {
        self.step += 1;
        self.print("")?;
        self.print_styled("", Style::Bold, &format!("{}.", self.step), &format!(" {text}"))
    }

    fn print(&self, text: &str) -> Result<(), Error> {
        if self.app.common.quiet { Ok(()) } else { text.split('\n').try_for_each(output::line) }
    }

    fn print_styled(&self, before: &str, style: Style, styled: &str, after: &str) -> Result<(), Error> {
        if self.app.common.quiet {
            return Ok(());
        }
        StyledLine::new(self.app).text(before).styled(style, styled).text(after).print()
    }

    /// Prints that an expectation is met, or fails the demo.
    fn expect(&self, met: bool, what: &str) -> Result<(), Error> {
        if met {
            return self.print_styled("  ", Style::Good, "ok:", &format!(" {what}"));
        }
        Err(Error::msg(
            ErrorCode::Unexpected,
            format!("step {} of the demo failed: expected that {what}", self.step),
            Hint::command("demo"),
        ))
    }
}

impl CommandOutput {
    /// Returns whether the token was denied for this reason.
    fn denied_for(&self, code: ReasonCode) -> bool {
        serde_json::from_str::<ReceivedVerdict>(self.stdout.expose())
            .is_ok_and(|verdict| !verdict.valid && verdict.reasons.iter().any(|reason| reason.code == code))
    }
}

/// Returns an HTTP client and the issuer's metadata.
async fn connect(issuer: &str) -> Result<(Http, Metadata), Error> {
    let http = Http::new(None)?;
    let metadata = discover(&http, &IssuerUrl::parse(issuer)?).await?;
    Ok((http, metadata))
}

/// Returns the token with one letter of its subject changed. Other changes could make the claims invalid JSON.
fn tamper(token: &Secret) -> Secret {
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

/// Shortens a token to its first characters.
fn shorten_token(line: &str) -> String {
    if line.len() > 60 && line.starts_with("ey") && line.split('.').count() == 3 {
        format!("{}... (a JWT of {} characters)", &line[..24], line.len())
    } else {
        line.to_owned()
    }
}

/// Joins words to a command that continues on the next line if it would exceed 80 columns.
fn wrap_command(words: impl Iterator<Item = String>) -> String {
    let (mut text, mut width) = (String::new(), "  $ authctl".len());
    for word in words {
        if width + word.len() > 76 && word.starts_with("--") {
            text.push_str(" \\\n     ");
            width = "     ".len();
        }
        if !text.is_empty() {
            text.push(' ');
        }
        width += 1 + word.len();
        text.push_str(&word);
    }
    text
}

/// Returns the arguments of a later login.
fn login_again() -> [&'static str; 6] {
    ["login", PROFILE, "--password", "--username", "developer", "--password-stdin"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tampered_token_has_valid_claims_with_another_subject() {
        for length in 0..64 {
            let before = format!(r#"{{"jti":"{}","sub":"Abc","exp":1}}"#, "x".repeat(length));
            let token = Secret::new(format!("eyJh.{}.c2ln", URL_SAFE_NO_PAD.encode(&before)));
            let changed = tamper(&token);
            let claims = changed.expose().split('.').nth(1).expect("three parts");
            let after = URL_SAFE_NO_PAD.decode(claims).expect("base64url");
            assert_eq!(String::from_utf8(after).expect("text"), before.replace("Abc", "Bbc"));
        }
    }
}
