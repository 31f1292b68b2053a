//! The conformance suite itself: what it finds, and what it shows to a method.

use super::*;

#[test]
fn the_set_that_is_not_read_is_black_at_the_size_that_pictures_are_shown_at() {
    let fixture = Fixture::new(&ForgetSpec::Class(1));
    let shown = fixture.dataset.clone().shown_at(12, 12).unwrap();
    for (name, parameters) in [("finetune", r#"{"epochs": 1}"#), ("gradient-ascent", r#"{"epochs": 1}"#)] {
        let method = by_name::<Net>(name, serde_json::from_str(parameters).unwrap()).unwrap();
        let mut suite = fixture.suite();
        suite.dataset = &shown;
        let found = suite.violations(method.as_ref());
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
}

/// A suite that cannot fail would prove nothing.
#[test]
fn the_suite_finds_what_is_broken() {
    struct Broken(&'static str);
    impl crate::Unlearn<Net> for Broken {
        fn name(&self) -> &'static str {
            self.0
        }
        fn reads(&self) -> crate::Reads {
            if self.0 == "peeks" { crate::Reads::Retain } else { crate::Reads::Both }
        }
        fn unlearn(
            &self,
            model: Net,
            partition: &Partition,
            context: &mut crate::Context<'_, Net>,
        ) -> Result<Outcome<Net>, UnlearnError> {
            let result = match self.0 {
                "moves statistics" => {
                    let device = Device::flex().autodiff();
                    let trained = model.clone().train();
                    trained.forward(Tensor::ones([4, 1, 8, 8], &device));
                    fresh()
                }
                "ignores the mask" => fresh(),
                "is not finite" => {
                    ParamTree::of_parameters(&model).scale(f64::NAN).write_into(&model).unwrap()
                }
                "peeks" => {
                    let image = context.dataset.image(partition.forget()[0]).unwrap();
                    let factor = 1.0 + f64::from(image.iter().map(|&b| u32::from(b)).sum::<u32>());
                    ParamTree::of_parameters(&model).scale(factor).write_into(&model).unwrap()
                }
                "stays on autodiff" => fresh().train(),
                _ => model.valid(),
            };
            Ok(Outcome::new(result, 0.0, context.mask))
        }
    }
    let fixture = class_one();
    for (broken, expected) in [
        ("ignores the mask", "not exactly zero"),
        ("is not finite", "is not finite"),
        ("peeks", "says it does not read"),
        ("stays on autodiff", "not on a plain device"),
        ("does nothing", "nothing moved"),
    ] {
        let found = fixture.suite().violations(&Broken(broken));
        assert!(found.iter().any(|f| f.contains(expected)), "{broken}: {found:?}");
    }
}
