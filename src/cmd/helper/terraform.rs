//! The protocol of Terraform's credentials helpers (`terraform-credentials-*`), which OpenTofu uses too.

use serde_json::json;

use super::call::Call;
use super::protocol::Protocol;
use super::setup::Change;
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ToolHost;
use crate::paths::{self, tool_variable};

pub(super) struct Terraform;

impl Protocol for Terraform {
    fn answer(&self, call: &Call<'_>) -> Result<u8, Error> {
        match call.words()[..] {
            ["get", host] => {
                let host: Option<ToolHost> = host.parse().ok();
                let profile = host.map(|host| call.profile_for(&host)).transpose()?.flatten();
                if profile.is_none() {
                    return output::data("{}").map(|()| 0);
                }
                call.with_token(profile, false, &|token| output::json(&json!({"token": token.text})).map(|()| 0))
            }
            ["store" | "forget", _] => {
                Err(Error::msg(ErrorCode::Usage, "authctl stores no tokens of terraform", Hint::None))
            }
            _ => Err(call.unknown_words()),
        }
    }

    fn setup(&self, _: &Call<'_>) -> Result<Vec<Change>, Error> {
        let home = paths::home()?;
        let file = tool_variable("TF_CLI_CONFIG_FILE").map_or_else(|| home.join(".terraformrc"), Into::into);
        Ok(vec![
            Change::LinkAt(home.join(".terraform.d/plugins/terraform-credentials-authctl")),
            Change::Block { file, text: "credentials_helper \"authctl\" {}\n" },
            Change::Hosts,
        ])
    }
}
