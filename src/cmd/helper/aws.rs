//! `credential_process` of AWS clients, through AssumeRoleWithWebIdentity.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde_json::json;

use super::call::{Call, foreign};
use super::program::program;
use super::protocol::Protocol;
use super::setup::{Change, TokenFile, read, values};
use crate::app::App;
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ProfileName, format_duration, secure_url};
use crate::oauth::aws_sts::Role;
use crate::paths::{self, tool_variable};
use crate::secret::Secret;
use crate::text::{shell_line, shell_words};

pub(super) struct Aws;

/// The setting of a profile of AWS that starts authctl.
const KEY: &str = "credential_process";

/// The settings of a profile of AWS by which it gets credentials in another way.
const CREDENTIAL_SETTINGS: [&str; 7] = [
    "aws_access_key_id",
    "credential_source",
    "login_session",
    "role_arn",
    "source_profile",
    "sso_session",
    "web_identity_token_file",
];

/// How long credentials may last, in seconds: `DurationSeconds` of the API.
const DURATIONS: RangeInclusive<u64> = 900..=43_200;

impl Protocol for Aws {
    fn answer(&self, call: &Call<'_>) -> Result<u8, Error> {
        if !call.args.words.is_empty() {
            return Err(call.unknown_words());
        }
        let app = call.app;
        let profile = app.profile(None)?;
        let (role, address) = (role(call, &profile.name)?, endpoint(call)?);
        let sts = secure_url(&address).map_err(|error| {
            Error::new(ErrorCode::Configuration, error, Hint::shell("unset AWS_ENDPOINT_URL_STS AWS_ENDPOINT_URL"))
        })?;
        call.with_token(Some(profile.name.clone()), false, &|token| {
            let token = Secret::new(token.text.to_owned());
            let credentials = app.run(async {
                let sessions = app.sessions()?;
                let assume = sessions.assume_aws_role(&profile, &sts, &role, &token);
                Ok(app.with_progress(sts.host_str().unwrap_or_default(), assume).await?)
            });
            // The issuer has accepted all of the profile.
            let credentials = credentials.map_err(|error| match error.code {
                ErrorCode::IssuerRefused => Error {
                    hint: Hint::advice("check that the role trusts issuer, audience and subject of the token"),
                    ..error
                },
                _ => error,
            })?;
            output::json(&json!({
                "Version": 1,
                "AccessKeyId": credentials.access_key_id,
                "SecretAccessKey": credentials.secret_access_key.expose(),
                "SessionToken": credentials.session_token.expose(),
                "Expiration": credentials.expiration,
            }))
            .map(|()| 0)
        })
    }

    fn setup(&self, call: &Call<'_>) -> Result<Vec<Change>, Error> {
        call.args.region.as_deref().map_or(Ok(()), check_region)?;
        let profile = call.profile_of_set_up()?;
        let name = call.args.aws_profile.as_deref().unwrap_or(profile.as_str());
        if name.is_empty() || name.contains(|c: char| c.is_control() || "[]'\"\\#;".contains(c)) {
            return Err(Error::msg(ErrorCode::Usage, "invalid name of an AWS profile", help()));
        }
        if !call.args.remove {
            check_credentials_file(name)?;
        }
        let header = match name {
            "default" => "[default]".to_owned(),
            name if name.contains(' ') => format!("[profile \"{name}\"]"),
            name => format!("[profile {name}]"),
        };
        let value = match call.args.remove && call.args.role_arn.is_none() {
            true => String::new(),
            false => {
                let mut words = program(call.app)?;
                words.extend(["helper", "aws", "--profile", profile.as_str()].map(str::to_owned));
                words.extend(["--role-arn".to_owned(), role(call, &profile)?.arn]);
                for (option, value) in
                    [("--role-session-name", &call.args.role_session_name), ("--region", &call.args.region)]
                {
                    words.extend(value.iter().flat_map(|value| [option.to_owned(), value.clone()]));
                }
                let duration = call.args.role_duration.map(format_duration);
                words.extend(duration.into_iter().flat_map(|value| ["--role-duration".to_owned(), value]));
                words.extend(call.args.id_token.then(|| "--id-token".to_owned()));
                shell_line(words)
            }
        };
        let section = Change::Section {
            file: config_file()?,
            header,
            key: KEY,
            value,
            is_ours: |value| value.contains(" helper aws "),
            others: &CREDENTIAL_SETTINGS,
        };
        let mut changes = vec![section];
        if call.args.setup {
            let (file, arn) = (TokenFile::of(call)?.path, role(call, &profile)?.arn);
            changes.push(Change::Note(format!(
                "or, for clients without credential_process, have the token written to a file (`{}`) and set\n  \
                 web_identity_token_file = {}\n  role_arn = {arn}",
                call.write_token_file()?,
                file.display()
            )));
        }
        Ok(changes)
    }

    /// The profiles of AWS.
    fn places_of(
        &self,
        app: &App,
        old: &ProfileName,
        new: Option<&ProfileName>,
    ) -> Result<Vec<(String, String)>, Error> {
        let file = config_file()?;
        let command = |header: &[String], value: &str| {
            let words = shell_words(value)?;
            let start = words.windows(2).position(|words| words == ["helper", "aws"])? + 2;
            let mut options = words[start..].to_vec();
            let at = options.windows(2).position(|words| words == ["--profile", old.as_str()])?;
            options.drain(at..at + 2);
            let (mode, profile) = new.map_or(("--remove", old), |new| ("--write", new));
            let hint = Hint::command("helper").with_argument("aws").with_flag(mode);
            let mut hint = hint.with_option("--profile", profile.as_str());
            if new.is_some() {
                hint = options.into_iter().fold(hint, Hint::with_argument);
            }
            let name = if header.len() > 1 { header[1..].join(" ") } else { header.join(" ") };
            Some(app.next_command(hint.with_option("--aws-profile", name)))
        };
        let text = read(&file)?;
        let found = values(&text, KEY).into_iter().filter_map(|(header, value)| command(&header, value));
        Ok(found.map(|command| (file.display().to_string(), command)).collect())
    }
}

/// Returns the file of the profiles of AWS.
fn config_file() -> Result<PathBuf, Error> {
    aws_file("AWS_CONFIG_FILE", ".aws/config")
}

/// Returns the file that the variable names, else the one in the home directory.
fn aws_file(variable: &str, default: &str) -> Result<PathBuf, Error> {
    Ok(match tool_variable(variable) {
        // AWS's clients resolve it.
        Some(file) => match file.strip_prefix("~/") {
            Some(below) => paths::home()?.join(below),
            None => PathBuf::from(file),
        },
        None => paths::home()?.join(default),
    })
}

/// Requires that the profile of AWS has no keys of its own in the file of credentials, which take precedence.
fn check_credentials_file(name: &str) -> Result<(), Error> {
    let (file, key) = (aws_file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?, CREDENTIAL_SETTINGS[0]);
    if !values(&read(&file)?, key).iter().any(|(header, _)| header.join(" ") == name) {
        return Ok(());
    }
    let message = format!("{} has {key} in [{name}], which AWS clients use instead", file.display());
    Err(foreign(message, Hint::edit(&file)))
}

fn help() -> Hint {
    Hint::command("helper").with_flag("--help")
}

/// Returns the role on the command line.
fn role(call: &Call<'_>, profile: &ProfileName) -> Result<Role, Error> {
    let missing = || Error::msg(ErrorCode::Usage, "the role is missing (--role-arn)", help());
    let arn = call.args.role_arn.clone().ok_or_else(missing)?;
    let is_role = arn.starts_with("arn:aws")
        && arn.split(':').nth(2) == Some("iam")
        && arn.split(':').nth(5).is_some_and(|name| name.starts_with("role/"))
        && arn.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_role {
        let message = "invalid role ARN (example: arn:aws:iam::123456789012:role/NAME)";
        return Err(Error::msg(ErrorCode::Usage, message, help()));
    }
    let session_name = match &call.args.role_session_name {
        Some(name) => name.clone(),
        None => format!("authctl-{profile}").chars().take(64).collect(),
    };
    // RoleSessionName of the API.
    let fits = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if !(2..=64).contains(&session_name.len()) || !session_name.chars().all(fits) {
        let message = "invalid role session name (2 to 64 letters, digits and _+=,.@-)";
        return Err(Error::msg(ErrorCode::Usage, message, help()));
    }
    let duration = call.args.role_duration;
    if duration.is_some_and(|duration| !DURATIONS.contains(&duration.as_secs())) {
        return Err(Error::msg(ErrorCode::Usage, "invalid duration of the credentials (15m to 12h)", help()));
    }
    Ok(Role { arn, session_name, duration })
}

/// Requires the name of a region, which becomes a part of the address of STS.
fn check_region(region: &str) -> Result<(), Error> {
    if !region.is_empty()
        && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        return Ok(());
    }
    Err(Error::msg(ErrorCode::Usage, "invalid region (example: eu-central-1)", help()))
}

/// Returns the address of STS: what the variables of AWS name, else that of the region.
fn endpoint(call: &Call<'_>) -> Result<String, Error> {
    let variable = |names: [&str; 2]| names.into_iter().find_map(tool_variable);
    if let Some(address) = variable(["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"]) {
        return Ok(address);
    }
    let Some(region) = call.args.region.clone().or_else(|| variable(["AWS_REGION", "AWS_DEFAULT_REGION"])) else {
        return Ok("https://sts.amazonaws.com".to_owned());
    };
    check_region(&region)?;
    let domain = match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        Some("eusc") => "amazonaws.eu",
        _ if region.starts_with("us-iso-") => "c2s.ic.gov",
        _ if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        _ => "amazonaws.com",
    };
    Ok(format!("https://sts.{region}.{domain}"))
}
