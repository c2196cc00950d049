//! The protocol of Terraform's credentials helpers (`terraform-credentials-*`), which OpenTofu uses too.

use std::path::PathBuf;

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
        // The second one is the old name.
        let named = ["TF_CLI_CONFIG_FILE", "TERRAFORM_CONFIG"].into_iter().find_map(tool_variable).map(PathBuf::from);
        // Where there is one, OpenTofu reads it instead of the other.
        let tofu = Some(home.join(".tofurc")).filter(|file| named.is_none() && file.exists());
        let files = [named.unwrap_or_else(|| home.join(".terraformrc"))].into_iter().chain(tofu);
        let block = |file| Change::Block { file, text: "credentials_helper \"authctl\" {}\n" };
        let link = Change::LinkAt(home.join(".terraform.d/plugins/terraform-credentials-authctl"));
        Ok([link].into_iter().chain(files.map(block)).chain([Change::Hosts]).collect())
    }
}
