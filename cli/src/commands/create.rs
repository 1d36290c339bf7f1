//! `seal create`: a new sealed file from values typed, piped or read from files.

use std::path::Path;

use crate::{
    args::{change::CreateArgs, seal::Format},
    config::Config,
    error::Result,
    files,
    manifest::{
        read::Template,
        write::{self, Manifest},
    },
    output,
    plan::{self, Names},
    request::{self, Wish},
    sealing::refuse_too_large,
    values,
};

pub(crate) fn run(args: &CreateArgs) -> Result<()> {
    for key in &args.keys {
        values::checked_key(key)?; // before anybody types a secret
    }
    let written = Some(args.file.as_path()).filter(|path| *path != Path::new("-"));
    if let Some(path) = written.filter(|path| path.exists()) {
        return Err(
            files::already_exists(path).hint(format!("add or change values with `seal set {}`", path.display()))
        );
    }
    let config = Config::find(written)?;
    let rule = written.and_then(|path| config.rule_for(path));
    let wish = Wish { scope: args.scope, namespaces: args.namespace.clone(), name: Some(args.name.clone()) };
    let target = plan::target(Names { name: None, namespace: None }, &wish, rule)?;
    let ring = config.ring_for(args.ring.to.as_deref(), rule)?;
    let recipient = ring.sealing_recipient()?;
    let mut template = Template { secret_type: args.secret_type.clone(), ..Template::default() };
    plan::without_foreign_marks(&mut template)?;
    let values = values::collect(&args.keys, &args.values, &args.from_env_file)?;
    let data = plan::seal_values(recipient, &target.sealed_for, &values)?;
    let manifest = Manifest {
        name: &target.name,
        namespace: target.namespace.as_deref(),
        sealed_for: &target.sealed_for,
        data: &data,
        template: &template,
    };
    let format = args.output.or_else(|| written.and_then(request::format_of)).unwrap_or(Format::Yaml);
    let text = match format {
        Format::Yaml => manifest.yaml(),
        Format::Json => format!("{}\n", write::pretty(&manifest.json())),
    };
    refuse_too_large(&text)?;
    let Some(path) = written else { return output::data(text.as_bytes()) };
    files::create(path, text.as_bytes())?;
    let keys: Vec<&str> = data.iter().map(|(key, _)| key.as_str()).collect();
    output::say(&format!(
        "{}: {} sealed to ring `{}` for {}",
        path.display(),
        keys.join(", "),
        ring.ring.name(),
        plan::described(&target.sealed_for)
    ));
    Ok(())
}
