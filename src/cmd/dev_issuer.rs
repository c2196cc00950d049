//! `authctl dev-issuer`: the embedded issuer by itself, until it is told to end.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::output;
use crate::app::App;
use crate::cli::{self, SigningAlgorithm};
use crate::dev_issuer::{Algorithm, DevIssuer, Options, User};
use crate::error::{Error, ErrorCode};
use crate::secret::Secret;

#[derive(Serialize)]
struct Ready<'a> {
    issuer: &'a str,
    users: Vec<&'a str>,
    /// Only of the user that was made up.
    password: Option<&'a str>,
    client_id: &'a str,
    confidential_client_id: &'a str,
    /// Made up anew at each start.
    confidential_client_secret: Option<&'a str>,
}

/// How long a status list may be kept: as long as an access token lives that is not asked to live longer.
const STATUS_LIST_TTL: Duration = Duration::from_secs(300);

/// The clients that it knows.
const CLIENT: &str = "authctl";
const CONFIDENTIAL_CLIENT: &str = "authctl-service";

impl From<SigningAlgorithm> for Algorithm {
    fn from(algorithm: SigningAlgorithm) -> Self {
        match algorithm {
            SigningAlgorithm::Rs256 => Self::RS256,
            SigningAlgorithm::Es256 => Self::ES256,
            SigningAlgorithm::EdDsa => Self::EdDSA,
        }
    }
}

/// Runs the command.
#[inline(never)]
pub fn run(app: &App, args: cli::DevIssuer) -> Result<u8, Error> {
    let mut made_up = None;
    let users = match &args.users {
        Some(file) => read_users(file)?,
        None => {
            let password = made_up_password()?;
            made_up = Some(password.clone());
            vec![User { display_name: Some("A Developer".into()), ..User::new("developer", password) }]
        }
    };
    let options = Options {
        port: args.port,
        path: args.path.trim_end_matches('/').to_owned(),
        access_token_ttl: args.access_token_ttl.max(Duration::from_secs(1)),
        id_token_ttl: args.access_token_ttl.max(Duration::from_secs(1)),
        refresh_token_ttl: args.refresh_token_ttl,
        refresh_token_uses: args.refresh_token_uses,
        reuse_grace: args.reuse_grace,
        rotate_refresh_tokens: !args.no_rotation,
        algorithm: args.algorithm.into(),
        opaque_access_tokens: args.opaque,
        status_list_ttl: args.status_list.then_some(STATUS_LIST_TTL),
        device_interval: args.device_interval,
        users,
        ..Options::default()
    };
    let secret = options.client_secret(CONFIDENTIAL_CLIENT);
    let users: Vec<String> = options.users.iter().map(|user| user.name.clone()).collect();
    app.serve(|mut signals| async move {
        let issuer = DevIssuer::spawn(options).map_err(|e| {
            Error::new(ErrorCode::Usage, e, "choose another --port or --path, or correct the file of --users")
        })?;
        let ready = Ready {
            issuer: issuer.issuer(),
            users: users.iter().map(String::as_str).collect(),
            password: made_up.as_ref().map(Secret::expose),
            client_id: CLIENT,
            confidential_client_id: CONFIDENTIAL_CLIENT,
            confidential_client_secret: secret.as_ref().map(Secret::expose),
        };
        announce(app, &ready)?;
        signals.next().await;
        drop(issuer);
        Ok(0)
    })
}

fn announce(app: &App, ready: &Ready) -> Result<(), Error> {
    if app.common.json {
        return output::json(ready);
    }
    // The first line is for scripts: they can read it and go on.
    output::line(ready.issuer)?;
    let tell = |text: &str| app.ui().tell(text);
    tell("\nA development issuer, on this machine only; it forgets everything when it stops (Ctrl-C).\n");
    tell(&format!("  users          {}", ready.users.join(", ")));
    if let Some(password) = ready.password {
        tell(&format!("  password       {password}"));
    }
    tell(&format!("  public client  {}", ready.client_id));
    if let Some(secret) = ready.confidential_client_secret {
        tell(&format!("  confidential   {}, secret {secret}", ready.confidential_client_id));
    }
    tell(&format!("\nIn another terminal:\n  authctl login dev --issuer {} --client-id {CLIENT}\n", ready.issuer));
    Ok(())
}

/// A line each: NAME:PASSWORD or NAME:PASSWORD:TOTP_SECRET; empty lines and those with `#` in front are passed over.
fn read_users(file: &Path) -> Result<Vec<User>, Error> {
    let wrong = |e: anyhow::Error| {
        Error::new(
            ErrorCode::Usage,
            e.context(format!("cannot use the users in {}", file.display())),
            "write a line for each user: NAME:PASSWORD or NAME:PASSWORD:TOTP_SECRET",
        )
    };
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(file).map_err(|e| wrong(e.into()))?);
    let mut users = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut parts = line.splitn(3, ':');
        let (Some(name), Some(password)) =
            (parts.next().filter(|name| !name.is_empty()), parts.next().filter(|password| !password.is_empty()))
        else {
            return Err(wrong(anyhow::anyhow!("line {} has no name and password", index + 1)));
        };
        let mut user = User::new(name, Secret::new(password.to_owned()));
        user.totp = parts.next().filter(|totp| !totp.is_empty()).map(|totp| Secret::new(totp.to_owned()));
        users.push(user);
    }
    if users.is_empty() {
        return Err(wrong(anyhow::anyhow!("there is none in it")));
    }
    Ok(users)
}

/// Four groups of letters that can be told apart and typed: 16 of 31, some 79 bits.
pub(super) fn made_up_password() -> Result<Secret, Error> {
    const LETTERS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
    let mut password = String::with_capacity(19);
    while password.len() < 19 {
        let mut byte = [0u8; 1];
        aws_lc_rs::rand::fill(&mut byte).map_err(|_| {
            Error::msg(ErrorCode::Unexpected, "this machine gives no random bytes", "check the kernel's generator")
        })?;
        if matches!(password.len(), 4 | 9 | 14) {
            password.push('-');
        }
        // Bytes past the last whole round would make some letters likelier.
        if byte[0] < 248 {
            password.push(char::from(LETTERS[usize::from(byte[0]) % LETTERS.len()]));
        }
    }
    Ok(Secret::new(password))
}
