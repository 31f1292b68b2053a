//! Networks that are frozen but for their adapters.

use burn::tensor::Device;
use unlearn_data::{Seed, Stream};
use unlearn_models::{Adapted, LoraConfig, ResNet, ResNetConfig, Stem, add_adapters};

use crate::testing::{CLASSES, bits, loader};
use crate::{
    BatchNormMode, CrossEntropy, Event, FitConfig, Observer, OptimizerConfig, TrainError, Unconstrained, fit,
    fit_in,
};

fn adapted() -> Adapted<ResNet> {
    let config = ResNetConfig { width: 4, blocks: [1, 1, 1, 1], classes: CLASSES, stem: Stem::Cifar };
    let mut rng = Seed(4).rng(Stream::Init, 0, 0);
    let base = config.init(&[0.5; 3], &[0.25; 3], &Device::flex(), &mut rng).unwrap();
    // No dropout: flex draws from one generator a process, which tests beside this one draw from too.
    let lora = LoraConfig::new(3, 6.0, ["conv1", "conv2", "fc"]);
    add_adapters(base, &lora, &mut rng).unwrap()
}

fn optimizers() -> [OptimizerConfig; 2] {
    [OptimizerConfig::sgd(0.9, 5e-4), OptimizerConfig::adam_w()]
}

#[test]
fn a_run_learns_and_never_touches_the_base() {
    for (optimizer, rate) in optimizers().into_iter().zip([0.05, 0.01]) {
        for batch_norm in [BatchNormMode::Train, BatchNormMode::Frozen] {
            let config = FitConfig { clip_norm: Some(1.0), batch_norm, ..FitConfig::new(6, rate, optimizer) };
            let start = adapted();
            let (data, objective) = (loader(64, 16), CrossEntropy::default());
            let done =
                fit(start.clone(), &data, &objective, &Unconstrained, &config, &mut crate::Silent).unwrap();
            assert_eq!(bits(done.model.base()), bits(start.base()));
            assert_ne!(bits(&done.model), bits(&start));
            let (first, last) = (done.history[0].loss, done.history[5].loss);
            assert!(last < first, "{first} {last}");
        }
    }
}

/// Asks to stop after so many steps.
struct StopAfter(u64);

impl Observer for StopAfter {
    fn on_event(&mut self, event: &Event) {
        if let Event::Step { .. } = event {
            self.0 = self.0.saturating_sub(1);
        }
    }

    fn should_stop(&mut self) -> bool {
        self.0 == 0
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_to_the_same_bits() {
    for optimizer in optimizers() {
        let config = FitConfig::new(3, 0.01, optimizer);
        let (data, objective) = (loader(48, 16), CrossEntropy::default());
        let whole = fit(adapted(), &data, &objective, &Unconstrained, &config, &mut crate::Silent).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let run = |observer: &mut dyn Observer| {
            fit_in(folder.path(), adapted(), &data, &objective, &Unconstrained, &config, observer)
        };
        assert!(matches!(run(&mut StopAfter(4)), Err(TrainError::Interrupted { step: 4 })));
        assert_eq!(bits(&run(&mut crate::Silent).unwrap().model), bits(&whole.model));
    }
}
