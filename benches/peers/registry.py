"""The peers by name. Imports nothing large, so that who starts them stays small."""

from typing import NamedTuple


class Peer(NamedTuple):
    """`function` of curvature.py; `batched`: takes many pictures at a time, as many as it is told."""

    function: str
    batched: bool
    computes: str


PEERS = {
    "gradient": Peer("gradient", True, "gradient"),
    "empirical-loop": Peer("empirical_loop", False, "empirical diagonal, a backward pass a picture"),
    "empirical-vmap": Peer("empirical_vmap", True, "empirical diagonal, torch.func"),
    "backpack-empirical": Peer("backpack_empirical", True, "empirical diagonal, BackPACK SumGradSquared"),
    "backpack-mc": Peer("backpack_mc", True, "diagonal by one sampled label, BackPACK DiagGGNMC"),
    "exact-loop": Peer("exact_loop", False, "exact diagonal, a backward pass a picture and class"),
    "backpack-exact": Peer("backpack_exact", True, "exact diagonal, BackPACK DiagGGNExact"),
    "group-mean-loop": Peer("group_mean_loop", False, "group-mean diagonal, a backward pass a group and class"),
    "curvlinops-ef-vec": Peer("curvlinops_ef", True, "empirical Fisher times one vector, curvlinops"),
    "curvlinops-ggn-vec": Peer("curvlinops_ggn", True, "GGN times one vector, curvlinops"),
    "woodfisher-loop": Peer("woodfisher_loop", False, "the published recursion"),
    "woodbury-explicit": Peer("woodbury_explicit", False, "inverse product from stored gradients"),
}
