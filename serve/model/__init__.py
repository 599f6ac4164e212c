"""The model: trees and logistic models on a row of features, conformal calibration by session size, what benign
sessions look like, and the refitting of all that on a provider's own traffic.

Others start at `calibration.Calibration`, which computes p-values, `classifier.Classifier`,
`benign_profile.BenignProfile` and `refitting.fit`.
"""
