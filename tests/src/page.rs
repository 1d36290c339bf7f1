//! A page of the documentation, followed word by word in a shell by somebody who has the real programs.
//!
//! page -> [`commands`] -> [`Person::types`], one after the other in one shell's memory: files, variables.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::kubectl::kubectl;
use crate::process::command;
use crate::{ControlPlane, Laptop, binaries};

/// What a page has one type: each begins with `$ ` in a block of `console`, and goes on in the lines that do not.
pub fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut commands: Vec<String> = Vec::new();
    for block in blocks {
        for line in block.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(begun), _) => commands.push(begun.to_owned()),
                (None, Some(last)) => {
                    last.push('\n');
                    last.push_str(line);
                }
                (None, None) => {}
            }
        }
    }
    commands
}

/// Somebody with a shell, a folder, and a cluster.
pub struct Person {
    /// Their folder.
    pub laptop: Laptop,
    environment: Vec<(String, String)>,
}

impl Person {
    /// They have `seal`, `kubectl` and these programs (name, path), and are administrators of the cluster.
    pub fn new(plane: &ControlPlane, programs: &[(&str, &Path)]) -> Result<Self> {
        let laptop = Laptop::new(plane.kubeconfig())?;
        let folder = laptop.path("../bin");
        fs::create_dir(&folder).context("make a folder for programs")?;
        let (seal, kubectl) = (binaries::seal()?, kubectl()?);
        for (name, program) in [("seal", seal.as_path()), ("kubectl", kubectl.as_path())].iter().chain(programs) {
            symlink(program, folder.join(name)).with_context(|| format!("give them {name}"))?;
        }
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").context("there is a PATH")?);
        let kubeconfig = plane.kubeconfig().to_string_lossy().into_owned();
        let environment = vec![("PATH".to_owned(), path), ("KUBECONFIG".to_owned(), kubeconfig)];
        Ok(Self { laptop, environment })
    }

    /// A variable of their shell, from now on.
    pub fn exports(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// They type this and expect that it succeeds; gives what is printed.
    pub fn types(&mut self, line: &str) -> Result<String> {
        // One shell for each line: what a shell would remember of it is remembered here.
        if let Some((name, value)) = line.strip_prefix("export ").and_then(|export| export.split_once('=')) {
            self.exports(name, value);
            return Ok(String::new());
        }
        if let Some(name) = line.strip_prefix("unset ") {
            self.environment.retain(|(known, _)| known != name);
            return Ok(String::new());
        }
        let mut shell = command("bash");
        shell.args(["-e", "-o", "pipefail", "-c", line]);
        for variable in ["BAO_ADDR", "BAO_TOKEN", "BAO_NAMESPACE", "BAO_CACERT", "VAULT_ADDR", "VAULT_TOKEN"] {
            shell.env_remove(variable);
        }
        shell.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let said = self.laptop.run(shell, b"")?;
        let stdout = String::from_utf8_lossy(&said.stdout).into_owned();
        ensure!(said.code == Some(0), "`{line}` ended with {:?}: {}{stdout}", said.code, said.stderr);
        Ok(stdout)
    }
}
