//! Writes `crds/*.yaml` from the types: `cargo crdgen`.
//!
//! ```text
//! seal_crds::crds() -> crds/<plural>.yaml, one file a kind
//! ```

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for crd in seal_crds::crds() {
        fs::write(folder.join(seal_crds::file_name(&crd)), seal_crds::yaml(&crd))?;
    }
    Ok(())
}
