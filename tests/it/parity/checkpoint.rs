//! A checkpoint as the public code saves one: pruned, with optimizer and all.

use burn::tensor::Device;
use unlearn::models::{StateDict, checkpoint};

use super::resnet::fresh;
use crate::goldens::Goldens;

#[test]
fn a_pruned_pth_tar_gives_masks_and_masked_weights() {
    let Some(goldens) = Goldens::open() else { return };
    let read = checkpoint::read(goldens.path("pruned_checkpoint.pth.tar")).unwrap();
    let dense = goldens.tensors("resnet.safetensors");

    // Every convolution is masked, and nothing else.
    let model = fresh(&goldens, &Device::flex());
    let masks = read.masks.for_module(&model).unwrap();
    let convolutions: Vec<_> = unlearn::curvature::parameters(&model)
        .into_iter()
        .filter(|p| p.layer == "Conv2d")
        .map(|p| (p.path, p.shape))
        .collect();
    assert_eq!(masks.len(), convolutions.len());
    for (path, shape) in &convolutions {
        assert_eq!(&masks[path].shape, shape, "{path}");
    }

    // The checkpoint was pruned once by global magnitude: the kept are exactly the largest.
    let magnitudes: Vec<(f32, bool)> = convolutions
        .iter()
        .flat_map(|(path, _)| {
            let weights = dense[path.as_str()].f32();
            weights.into_iter().map(f32::abs).zip(masks[path].keep.clone()).collect::<Vec<_>>()
        })
        .collect();
    let pruned = magnitudes.iter().filter(|(_, keep)| !keep).count();
    assert!(0 < pruned && pruned < magnitudes.len(), "{pruned} of {}", magnitudes.len());
    // Of two that are equal, either may go.
    let largest_gone = magnitudes.iter().filter(|(_, keep)| !keep).map(|(m, _)| *m).fold(0.0, f32::max);
    let smallest_kept = magnitudes.iter().filter(|(_, keep)| *keep).map(|(m, _)| *m).fold(f32::MAX, f32::min);
    assert!(largest_gone <= smallest_kept, "{largest_gone} is gone and {smallest_kept} is kept");

    // Kept weights and all else are the dense net's; pruned ones are +0.0.
    for (name, tensor) in read.state.iter() {
        let expected = &dense[name];
        assert_eq!(tensor.shape, expected.shape, "{name}");
        let keep = read.masks.get(name).map(|mask| &mask.keep);
        for (i, (got, dense)) in tensor.values.iter().zip(expected.f32()).enumerate() {
            let expected = if keep.is_none_or(|keep| keep[i]) { dense } else { 0.0 };
            assert_eq!(got.to_bits(), expected.to_bits(), "{name}[{i}]");
        }
    }
    let counters = dense.keys().filter(|name| name.ends_with("num_batches_tracked")).count();
    assert_eq!(read.state.len(), dense.len() - counters);

    let model = read.state.load_into(model).unwrap();
    assert_eq!(StateDict::of(&model).unwrap(), read.state);
}
