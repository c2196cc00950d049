//! A Terraform registry. `tests/install` installs neither Terraform nor OpenTofu: where there is none, `terraform.py` takes its
//! steps, and the test's output says so.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Setup, fails, succeeds};

#[test]
fn terraform_or_its_steps_get_a_module_from_a_private_registry() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_in_path = |name: &&&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let terraform = ["terraform", "tofu"].iter().find(is_in_path);
    if terraform.is_none() {
        println!("neither terraform nor tofu is installed: terraform.py takes its steps");
    }
    let setup = Setup::new();
    let (root, project) = (setup.root(), setup.home.path().join("project"));
    let place = |dir: &Path, name: &str, text: &str| {
        let file = dir.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    place(&root, ".well-known/terraform.json", r#"{"modules.v1": "/modules/"}"#);
    place(&root, "modules/team/greeting/test/versions", r#"{"modules": [{"versions": [{"version": "1.0.0"}]}]}"#);
    let module = format!("file://{}/module.zip", root.display());
    place(&root, "modules/team/greeting/test/1.0.0/download", &module);
    place(&root, "module/main.tf", "output \"hello\" {\n  value = \"hello\"\n}\n");
    let mut zip = setup.command("python3");
    succeeds(zip.args(["-m", "zipfile", "-c", "../module.zip", "main.tf"]).current_dir(root.join("module")));
    let source = format!("{}/team/greeting/test", setup.encrypted);
    place(
        &project,
        "main.tf",
        &format!("module \"greeting\" {{\n  source = \"{source}\"\n  version = \"1.0.0\"\n}}\n"),
    );
    let steps = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/tools/terraform.py");
    let with_certificate = |mut command: Command| {
        command.current_dir(&project).env("SSL_CERT_FILE", root.join("cert.pem")).env("CHECKPOINT_DISABLE", "1");
        command
    };
    let init_by_steps = || {
        let mut python = setup.command("python3");
        python.arg(steps).arg(&source);
        with_certificate(python)
    };
    let init = || match terraform {
        Some(program) => {
            let mut terraform = setup.command(program);
            terraform.args(["init", "-no-color"]);
            with_certificate(terraform)
        }
        None => init_by_steps(),
    };
    fails(&mut init());
    fails(&mut init_by_steps());
    setup.set_up_for("terraform", &setup.encrypted);
    let token = setup.home.token("work");
    succeeds(&mut init());
    assert!(project.join(".terraform/modules/greeting/main.tf").exists());
    // The steps are those of the program, wherever both can be run.
    fs::remove_dir_all(project.join(".terraform")).unwrap();
    succeeds(&mut init_by_steps());
    assert!(project.join(".terraform/modules/greeting/main.tf").exists());
    let requests = setup.requests();
    assert!(requests.iter().any(|request| request[..2] == ["200", "Bearer"] && request[4].ends_with("/download")));
    setup.assert_no_token_in_files(&token);
    setup.home.run(&["helper", "terraform", "--remove", "--profile", "work", "--host", &setup.encrypted]).exits(0);
    fs::remove_dir_all(project.join(".terraform")).unwrap();
    let error = fails(&mut init());
    assert!(error.contains("401"), "{error}");
}
