//! `authctl dev-issuer`: runs the embedded issuer until it is interrupted.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::output;
use crate::app::App;
use crate::cli::{self, SigningAlgorithm};
use crate::dev_issuer::{Algorithm, DevIssuer, DevIssuerError, GrantType, Options, PlatformKeys, User};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::regular_file;
use crate::secret::Secret;

#[derive(Serialize)]
struct Ready<'a> {
    issuer: &'a str,
    users: Vec<&'a str>,
    /// The random password of the default user.
    password: Option<&'a str>,
    client_id: &'a str,
    confidential_client_id: &'a str,
    /// Random for each start.
    confidential_client_secret: Option<&'a str>,
    /// The value of the `X-Dev-Issuer-Control` header, with `--control`.
    control_key: Option<&'a str>,
}

/// How long a status list may be cached.
const STATUS_LIST_TTL: Duration = Duration::from_secs(300);

/// The largest accepted file of `--workload-jwks`.
const MAX_JWKS_BYTES: u64 = 1 << 20;

/// The registered clients (see [`Options::default`]).
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
pub fn run(app: &App, args: cli::DevIssuer) -> Result<u8, Error> {
    let mut default_password = None;
    let users = match &args.users {
        Some(file) => read_users(file)?,
        None => {
            let password = random_password()?;
            default_password = Some(password.clone());
            vec![User { display_name: Some("A Developer".into()), ..User::new("developer", password) }]
        }
    };
    let mut options = Options {
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
        require_par: args.require_par,
        require_dpop: args.require_dpop,
        dpop_nonces: args.dpop_nonces,
        users,
        ..Options::default()
    };
    options.platform_keys = args.workload_jwks.as_deref().map(read_platform_keys).transpose()?;
    let has_platform = options.platform_keys.is_some();
    for client in &mut options.clients {
        client.grants.push(GrantType::TokenExchange);
        client.grants.extend(has_platform.then_some(GrantType::JwtBearer));
    }
    if args.control {
        options.enable_control().ok_or_else(no_randomness)?;
    }
    let control_key = options.control_key.clone();
    let secret = options.client_secret(CONFIDENTIAL_CLIENT);
    let users: Vec<String> = options.users.iter().map(|user| user.name.clone()).collect();
    app.run_with_signals(|mut signals| async move {
        let issuer = DevIssuer::spawn(options).map_err(|e| {
            let command = Hint::command("dev-issuer");
            let hint = match &e {
                DevIssuerError::Listen { .. } => command.with_typed_options().with_option("--port", "0"),
                _ => command.with_flag("--help"),
            };
            Error::new(ErrorCode::Usage, e, hint)
        })?;
        let ready = Ready {
            issuer: issuer.issuer(),
            users: users.iter().map(String::as_str).collect(),
            password: default_password.as_ref().map(Secret::expose),
            client_id: CLIENT,
            confidential_client_id: CONFIDENTIAL_CLIENT,
            confidential_client_secret: secret.as_ref().map(Secret::expose),
            control_key: control_key.as_ref().map(Secret::expose),
        };
        print_ready(app, &ready)?;
        signals.next().await;
        drop(issuer);
        Ok(0)
    })
}

fn print_ready(app: &App, ready: &Ready) -> Result<(), Error> {
    if app.common.json {
        return output::json(ready);
    }
    // Only the issuer identifier goes to stdout, so that a script can read it and continue.
    output::line(ready.issuer)?;
    let print = |text: &str| app.ui().notice(text);
    print("\nThis issuer is for testing on this machine only. Press Ctrl-C to stop it.\n");
    print(&format!("  users          {}", ready.users.join(", ")));
    if let Some(password) = ready.password {
        print(&format!("  password       {password}"));
    }
    print(&format!("  public client  {}", ready.client_id));
    if let Some(secret) = ready.confidential_client_secret {
        print(&format!("  confidential   {}, secret {secret}", ready.confidential_client_id));
    }
    if let Some(key) = ready.control_key {
        print(&format!("  control key    {key}"));
    }
    print(&format!(
        "\nTo log in, run in another terminal:\n  authctl login dev --issuer {} --client-id {CLIENT}\n",
        ready.issuer
    ));
    Ok(())
}

fn read_platform_keys(file: &Path) -> Result<PlatformKeys, Error> {
    let text = regular_file::read(file, MAX_JWKS_BYTES).and_then(|bytes| {
        let keys = std::str::from_utf8(bytes.expose()).ok().and_then(PlatformKeys::parse);
        keys.ok_or_else(|| "not a JWK Set".to_owned())
    });
    text.map_err(|reason| {
        let message = format!("cannot read keys from {}: {reason}", file.display());
        Error::msg(ErrorCode::Usage, message, Hint::command("dev-issuer").with_flag("--help"))
    })
}

/// Reads users, one NAME:PASSWORD or NAME:PASSWORD:TOTP_SECRET per line. Empty lines and comments (`#`) are skipped.
fn read_users(file: &Path) -> Result<Vec<User>, Error> {
    let invalid = |e: anyhow::Error| {
        Error::new(
            ErrorCode::Usage,
            e.context(format!("cannot read users from {}", file.display())),
            Hint::command("dev-issuer").with_flag("--help"),
        )
    };
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(file).map_err(|e| invalid(e.into()))?);
    let mut users = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut parts = line.splitn(3, ':');
        let (Some(name), Some(password)) =
            (parts.next().filter(|name| !name.is_empty()), parts.next().filter(|password| !password.is_empty()))
        else {
            return Err(invalid(anyhow::anyhow!("line {} has no name and password", index + 1)));
        };
        let mut user = User::new(name, Secret::new(password.to_owned()));
        user.totp = parts.next().filter(|totp| !totp.is_empty()).map(|totp| Secret::new(totp.to_owned()));
        users.push(user);
    }
    if users.is_empty() {
        return Err(invalid(anyhow::anyhow!("the file has no users")));
    }
    Ok(users)
}

/// Returns a random password of about 79 bits: 16 of 31 characters that are hard to confuse, in four groups.
pub(super) fn random_password() -> Result<Secret, Error> {
    const LETTERS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
    let mut password = String::with_capacity(19);
    while password.len() < 19 {
        let mut byte = [0u8; 1];
        aws_lc_rs::rand::fill(&mut byte).map_err(|_| no_randomness())?;
        if matches!(password.len(), 4 | 9 | 14) {
            password.push('-');
        }
        // 248 is the largest multiple of 31 that fits in a byte: larger values would favour some characters.
        if byte[0] < 248 {
            password.push(char::from(LETTERS[usize::from(byte[0]) % LETTERS.len()]));
        }
    }
    Ok(Secret::new(password))
}

fn no_randomness() -> Error {
    Error::msg(ErrorCode::Unexpected, "no random bytes available", Hint::None)
}
