//! Executable-sourced credentials of Google Cloud clients (workload identity federation).

use serde_json::json;

use super::call::{Call, error_and_hint};
use super::program::program;
use super::protocol::{Failure, Protocol};
use super::setup::{Change, TokenFile};
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::paths::tool_variable;
use crate::text::{excerpt, shell_line};

pub(super) struct Google;

/// The variable in which a client passes the type of token that it expects.
const VARIABLE: &str = "GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE";

/// The types of token, the access token as a JWT first.
const TYPES: [&str; 2] = ["urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"];

impl Protocol for Google {
    fn answer(&self, call: &Call<'_>) -> Result<u8, Error> {
        if !call.args.words.is_empty() {
            return Err(call.unknown_words());
        }
        let wanted = tool_variable(VARIABLE);
        if let Some(other) = wanted.as_deref().filter(|wanted| !TYPES.contains(wanted)) {
            let [jwt, id_token] = TYPES;
            let other = excerpt(other, 100);
            let message = format!("the client's subject_token_type is {other}, but must be {jwt} or {id_token}");
            return Err(Error::msg(ErrorCode::Usage, message, Hint::None));
        }
        let wants_id_token = call.args.id_token || wanted.as_deref() == Some(TYPES[1]);
        let token_type = TYPES[usize::from(wants_id_token)];
        call.with_token(None, wants_id_token, &|token| {
            let mut reply = json!({"version": 1, "success": true, "token_type": token_type, "id_token": token.text});
            if let Some(at) = token.expires_at {
                reply["expiration_time"] = json!(at.0);
            }
            output::json(&reply).map(|()| 0)
        })
    }

    /// The client reads the reason from stdout, and only if the exit code is 0. google-auth reads stderr as well, as a part of it.
    fn failure(&self, error: &Error) -> Failure {
        let reply = json!({"version": 1, "success": false, "code": error.code, "message": error_and_hint(error)});
        Failure { stdout: Some(reply.to_string()), code: 0, on_stderr: false }
    }

    fn setup(&self, call: &Call<'_>) -> Result<Vec<Change>, Error> {
        let profile = call.app.profile(None)?.name;
        let mut words = program(call.app)?;
        words.extend(["helper", "google", "--quiet", "--profile", profile.as_str()].map(str::to_owned));
        words.extend(call.args.id_token.then(|| "--id-token".to_owned()));
        let command = shell_line(words);
        let source = json!({"executable": {"command": command, "timeout_millis": 30_000}});
        let file = json!({"file": TokenFile::of(call)?.path});
        Ok(vec![Change::Note(format!(
            "set `credential_source` in the credential configuration of the client to\n  {source}\nand set \
             GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1 for it; or have the token written to a file (`{}`) and set it \
             to\n  {file}",
            call.write_token_file()?
        ))])
    }
}
