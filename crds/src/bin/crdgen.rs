//! Writes `crds/*.yaml`, the chart's copies, and the JSON schemas from the types: `cargo crdgen`.
//!
//! ```text
//! seal_crds::crds() -> crds/<plural>.yaml, one file a kind -> charts/sealwright/files/crds/<plural>.yaml
//!                   -> crds/schemas/<kind>_<version>.json
//! ```

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in [folder, &folder.join("../charts/sealwright/files/crds")] {
        for crd in seal_crds::crds() {
            fs::write(folder.join(seal_crds::file_name(&crd)), seal_crds::yaml(&crd))?;
        }
    }
    fs::create_dir_all(folder.join("schemas"))?;
    for (name, schema) in seal_crds::crds().iter().flat_map(seal_crds::json_schemas) {
        fs::write(folder.join("schemas").join(name), schema)?;
    }
    Ok(())
}
