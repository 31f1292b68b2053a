//! Evaluation of unlearning: accuracies, membership inference and the gap to retraining.
