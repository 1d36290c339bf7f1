//! Manifests: bytes in (`text`, `yaml`, `read`), changed in place (`edit`), new ones out (`write`).

pub(crate) mod edit;
pub(crate) mod read;
pub(crate) mod text;
pub(crate) mod write;
pub(crate) mod yaml;
