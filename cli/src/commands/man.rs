//! `seal man`: the command line -> manual pages.

use clap::CommandFactory as _;

use crate::{
    args::{Cli, shell::ManArgs},
    error::{Error, Result},
    output,
};

pub(crate) fn run(args: ManArgs) -> Result<()> {
    let command = Cli::command();
    let Some(folder) = args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut page)
            .map_err(|cause| Error::bug("the manual page cannot be made").because(cause))?;
        return output::data(&page);
    };
    std::fs::create_dir_all(&folder)
        .and_then(|()| clap_mangen::generate_to(command, &folder))
        .map_err(|cause| Error::request(format!("cannot write manual pages to {}", folder.display())).because(cause))
}
