//! Workload identity of Azure clients: they read the token from a file and exchange it at Microsoft Entra ID.

use super::call::Call;
use super::file::nothing_to_answer;
use super::protocol::Protocol;
use super::setup::{Change, TokenFile};
use crate::error::Error;
use crate::paths::tool_variable;
use crate::text::shell_word;

pub(super) struct Azure;

/// The variables that clients read besides the file's, and what each is.
const VARIABLES: [(&str, &str); 2] = [("AZURE_CLIENT_ID", "APPLICATION-ID"), ("AZURE_TENANT_ID", "TENANT-ID")];

impl Protocol for Azure {
    fn answer(&self, call: &Call<'_>) -> Result<u8, Error> {
        Err(nothing_to_answer(call))
    }

    fn setup(&self, call: &Call<'_>) -> Result<Vec<Change>, Error> {
        let file = TokenFile::of(call)?;
        let mut lines = vec![
            "set these in the environment of the program".to_owned(),
            format!("  AZURE_FEDERATED_TOKEN_FILE={}", shell_word(&file.path.display().to_string())),
        ];
        lines.extend(VARIABLES.map(|(name, meaning)| {
            let value = tool_variable(name).unwrap_or_else(|| meaning.to_owned());
            format!("  {name}={}", shell_word(&value))
        }));
        lines.push(
            "where the application has a federated credential for issuer, subject and audience of the token".into(),
        );
        Ok(vec![Change::TokenFile(Box::new(file)), Change::Note(lines.join("\n"))])
    }
}
