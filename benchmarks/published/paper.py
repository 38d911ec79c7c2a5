"""The claims of the paper (Spagnolo et al., instance-level saliency), one by one."""

import observations as read
import others
import surroundings as around
from observations import Claim

CLAIMS = (
    Claim(
        "FLAIR is positive inside a lesion, MPRAGE negative",
        "sign",
        "3.2",
        "modalities",
        "the median over TP of the map's mean in the domain is above 0 in FLAIR, below in MPRAGE",
        read.signs_inside,
    ),
    Claim(
        "around it, signs are the opposite",
        "sign",
        "3.2",
        "modalities",
        "the median over TP of the map's mean 1 to 5 mm away is below 0 in FLAIR, above in MPRAGE",
        read.signs_around,
    ),
    Claim(
        "of values from 0.1 on, FLAIR's positive ones are larger than MPRAGE's negative ones",
        "medians of TP: FLAIR 0.501, MPRAGE -0.196",
        "3.2",
        "modalities --cut 0.1",
        "the median over TP of the median inside of each, of what the cut leaves, is positive in "
        "FLAIR, negative in MPRAGE, and larger in FLAIR",
        read.medians,
    ),
    Claim(
        "FLAIR weighs more than MPRAGE in TP, FP, FN and TN",
        "medians",
        "3.2",
        "modalities",
        "the median ratio of mean magnitudes in the domain is above 1 in every outcome that has "
        "three domains",
        read.channels,
    ),
    Claim(
        "values fall to zero some 44 mm away",
        "44 mm",
        "3.2",
        "context",
        "the influence on the mean logit falls under 1 % of its peak within 44 mm",
        around.reach,
    ),
    Claim(
        "maps are near zero on other lesions",
        "close-to-zero values",
        "3.2",
        "run",
        "the median over TP of mean |v| on the nearest other lesion is below a tenth of mean |v| "
        "on the lesion that is explained, in both channels",
        others.near_zero,
    ),
    Claim(
        "Grad-CAM++ tells two close lesions apart",
        "Fig. 10",
        "3.3",
        "run --method gradcam++",
        "nine of ten TP with another lesion within 10 mm have twice the mean heat of that one",
        others.apart,
    ),
    Claim(
        "peaks rise TN < FN < FP < TP",
        "0.465, 1.202, 1.630, 1.997",
        "3.3",
        "outcomes",
        "medians of the FLAIR peak of the signed max rise in this order",
        read.peaks_rise,
        "The score decides. A logit's row has nearly the same peak everywhere, in healthy tissue, "
        "too; the probability multiplies it by p(1 - p), so that the order is that of how sure "
        "the model is: least where it is sure of healthy tissue. A lesion that it is very sure of "
        "has small rows again, so that on phantoms an FP may peak above a TP.",
    ),
    Claim(
        "minima follow in the reverse order",
        "-0.245, -0.359, -0.522, -0.639",
        "3.3",
        "outcomes",
        "medians of the FLAIR trough of the signed max fall in this order",
        read.troughs_fall,
        "As for the peaks.",
    ),
    Claim(
        "the four groups differ",
        "Mann-Whitney, all pairs p < 6e-65",
        "3.3",
        "outcomes",
        "all six pairs differ at 5 % (Holm) by Datta and Satten's rank sum, with ten patients or "
        "more; phantoms are counted by mask",
        read.differ,
        "The paper's test takes all lesions as independent: by it all six pairs differ on the "
        "phantoms, too, with the probability, and four with the logit. By the one that knows "
        "patients TP and FP do not differ, and with the logit two pairs do.",
    ),
    Claim(
        "a lesion peaks higher than healthy tissue, for equal size and shape (not in the paper)",
        "-",
        "control",
        "outcomes",
        "nine of ten TP peak higher in FLAIR than their own control, of the same shape in healthy "
        "tissue of the same scan",
        read.matched,
        "With the logit, healthy tissue peaks as high as a lesion.",
    ),
    Claim(
        "healthy areas are 10^5 to 10^6 times weaker",
        "10^5 to 10^6",
        "first abstract",
        "outcomes",
        "the median FLAIR peak of TP is 3e4 to 3e6 times that of TN spheres",
        read.factor(3e4, 3e6),
        "The factor is that of p(1 - p), and so depends on how sure a model is of healthy tissue.",
    ),
    Claim(
        "TP peak four times as high as TN",
        "1.997 / 0.465 = 4.3",
        "3.3",
        "outcomes",
        "the median FLAIR peak of TP is 2 to 8 times that of TN spheres",
        read.factor(2, 8),
        "The logit gives about 1, the probability orders of magnitude: the paper's 4.3 lies "
        "between, and its text does not say which score was used.",
    ),
    Claim(
        "the mean falls with the volume, the signed max does not",
        "Fig. 7",
        "3.1",
        "sizes",
        "the rank correlation of the FLAIR peak with the volume is below -0.3 for the mean, and "
        "not for the signed max; ten lesions or more",
        read.sizes,
        "On the phantoms the signed max is of 8 rows, among which the highest of a large lesion "
        "may be missing: this may be us.",
    ),
    Claim(
        "a lesion moved to healthy white matter is detected",
        "probability above 0.3",
        "3.4",
        "synthetic",
        "a voxel is above the threshold at more than half of the places; or the mean probability "
        "is above 0.3",
        around.moved("healthy tissue", detected=True),
    ),
    Claim(
        "a lesion moved outside of the head is not detected",
        "Fig. 12",
        "3.4",
        "synthetic",
        "a voxel is above the threshold at no more than half of the places; or the mean "
        "probability is not above 0.3",
        around.moved("outside", detected=False),
        "The fill decides: after z-scoring 0 is the brain's mean, and not black. And in a large "
        "lesion one of many voxels passes the threshold where their mean is far below.",
    ),
    Claim(
        "with a rim of 3 mm it is not detected either",
        "Fig. 12",
        "3.4",
        "synthetic",
        "a voxel is above the threshold at no more than half of the places; or the mean "
        "probability is not above 0.3",
        around.moved("outside, 3 mm rim", detected=False),
        "As without the rim.",
    ),
    Claim(
        "the rim raises the peak",
        "higher peak values than without",
        "3.4",
        "synthetic",
        "the median FLAIR peak of the mean's map is higher with the rim",
        around.rim_raises_peak,
        "Where a probability is near 1 already, its gradient falls as the score rises.",
    ),
    Claim(
        "artificially isolated lesions are not detected",
        "abstract",
        "3.5",
        "context",
        "each in its own place with all else filled, no more than half of the lesions have a voxel "
        "above the threshold; or the mean probability is not above 0.3",
        around.alone,
        "As outside of the head.",
    ),
    Claim(
        "7 mm of surroundings are needed, and enough",
        "all 178 lesions from 7 mm",
        "3.5",
        "context",
        "all lesions that are detected in the whole image are from 5 to 9 mm on, and not before",
        around.enough,
        "Where the fill is the brain's mean, a voxel passes the threshold from the start. On a "
        "dark fill our U-Net needs more than 7 mm, up to nearly all of what it sees.",
    ),
    Claim(
        "the deviation is largest at 3 mm",
        "3 mm",
        "3.5",
        "context",
        "the standard deviation of the mean probability over lesions is largest at 2 to 4 mm",
        around.deviation,
        "It is largest where some lesions are detected and others are not, which is farther out "
        "for our U-Net.",
    ),
    Claim(
        "the score reaches a plateau at 12 to 15 mm",
        "12 to 15 mm",
        "3.5",
        "context",
        "from 12 to 15 mm on, the mean curve stays within 5 % (see `segxai experiment context`)",
        around.plateau,
        "The plateau lies near the network's measured reach, where its influence falls under 1 %.",
    ),
    Claim(
        "scores of the three networks",
        "nDSC .71/.78/.80; lesion TPR 79/78/85 %; FDR 37/38/36 %; FNR 20/22/14 %",
        "last version",
        "run",
        "nDSC within 0.10 and rates within 10 points of the paper's, with ten patients or more",
        read.scores,
        "Our networks were trained on one patient and phantoms.",
    ),
    Claim(
        "saliency could be used to identify errors",
        "said, never tested",
        "4",
        "flags",
        "it adds to the AUC of volume and probability: the interval over patients is above 0",
        read.flags,
        "On phantoms the baselines tell TP from FP nearly alone (AUC 0.97), and saliency alone "
        "hardly worse (mean 0.96, signed max 0.90): there is little to add. Of patients this says "
        "nothing.",
    ),
)
