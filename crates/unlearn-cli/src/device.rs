//! From the name of a device to the device; there is no default and no silent stand-in.

use unlearn::burn::tensor::Device;

use crate::error::{Exit, Failure, nearest};

/// Every name that `--device` knows, with whether this build has it.
const KNOWN: [(&str, bool); 5] = [
    ("flex", cfg!(feature = "flex")),
    ("ndarray", cfg!(feature = "ndarray")),
    ("wgpu", cfg!(feature = "wgpu")),
    ("vulkan", cfg!(feature = "vulkan")),
    ("cuda", cfg!(feature = "cuda")),
];

/// The device called `name`.
///
/// Fails with `E_DEVICE` for a name that means nothing and `E_BACKEND_NOT_BUILT` for a device that
/// this build lacks.
pub(crate) fn open(name: &str) -> Result<Device, Failure> {
    match name {
        #[cfg(feature = "flex")]
        "flex" => Ok(Device::flex()),
        #[cfg(feature = "ndarray")]
        "ndarray" => Ok(Device::ndarray()),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(unlearn::burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(unlearn::burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(0)),
        _ => Err(refuse(name)),
    }
}

/// A device for what needs no speed, such as the names of a model's weights.
pub(crate) fn any() -> Result<Device, Failure> {
    let built = KNOWN.iter().find(|(_, built)| *built).map_or("flex", |(name, _)| *name);
    open(built)
}

fn refuse(name: &str) -> Failure {
    let built: Vec<&str> = KNOWN.iter().filter(|(_, built)| *built).map(|(name, _)| *name).collect();
    let built = built.join(", ");
    if KNOWN.iter().any(|(known, _)| *known == name) {
        return Failure::new(
            "E_BACKEND_NOT_BUILT",
            Exit::Environment,
            "--device",
            format!("{name}, which is not built in"),
            format!("one of those built in: {built}"),
            format!("choose one of them, or build with `cargo build --release --features {name}`"),
        );
    }
    let mend = nearest(name, KNOWN.map(|(known, _)| known))
        .map_or_else(|| "name a device".to_owned(), |near| format!("did you mean {near:?}?"));
    Failure::new(
        "E_DEVICE",
        Exit::Usage,
        "--device",
        format!("{name:?}"),
        format!("flex, ndarray, wgpu, vulkan or cuda (built in: {built})"),
        mend,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_and_missing_backends_differ() {
        let stranger = open("flexx").unwrap_err();
        assert_eq!((stranger.code, stranger.exit), ("E_DEVICE", Exit::Usage));
        assert!(stranger.mend.contains("flex"));
        for (name, built) in KNOWN {
            if !built {
                let failure = open(name).unwrap_err();
                assert_eq!((failure.code, failure.exit), ("E_BACKEND_NOT_BUILT", Exit::Environment));
                assert!(failure.expected.contains("flex"), "{failure}");
            }
        }
    }
}
