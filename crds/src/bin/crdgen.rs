//! Writes `crds/*.yaml`, and the chart's copies, from the types: `cargo crdgen`.
//!
//! ```text
//! seal_crds::crds() -> crds/<plural>.yaml, one file a kind -> charts/sealwright/files/crds/<plural>.yaml
//! ```

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in [folder, &folder.join("../charts/sealwright/files/crds")] {
        for crd in seal_crds::crds() {
            fs::write(folder.join(seal_crds::file_name(&crd)), seal_crds::yaml(&crd))?;
        }
    }
    Ok(())
}
