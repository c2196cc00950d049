//! A Terraform registry. The tests do not install Terraform or OpenTofu: run this one with `--ignored terraform` where one is
//! installed. The protocol is always tested (`tests/cli/helper`).

use std::fs;
use std::path::Path;

use super::{Setup, fails, succeeds};

#[test]
#[ignore = "needs terraform or tofu, which tests/install does not install"]
fn terraform_gets_a_module_from_a_private_registry() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_in_path = |name: &&&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let terraform = ["terraform", "tofu"].iter().find(is_in_path).expect("terraform or tofu");
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
    let init = || {
        let mut terraform = setup.command(terraform);
        terraform.args(["init", "-no-color"]).current_dir(&project);
        terraform.env("SSL_CERT_FILE", root.join("cert.pem")).env("CHECKPOINT_DISABLE", "1");
        terraform
    };
    fails(&mut init());
    setup.set_up_for("terraform", &setup.encrypted);
    let token = setup.home.token("work");
    succeeds(&mut init());
    assert!(project.join(".terraform/modules/greeting/main.tf").exists());
    let requests = setup.requests();
    assert!(requests.iter().any(|request| request[..2] == ["200", "Bearer"] && request[4].ends_with("/download")));
    setup.assert_no_token_in_files(&token);
    setup.home.run(&["helper", "terraform", "--remove", "--profile", "work", "--host", &setup.encrypted]).exits(0);
    fs::remove_dir_all(project.join(".terraform")).unwrap();
    let error = fails(&mut init());
    assert!(error.contains("401"), "{error}");
}
