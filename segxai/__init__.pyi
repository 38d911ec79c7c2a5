"""The public names of segxai, in the groups of docs/reference/api.md."""

# Explain
from .explaining import explain as explain
from .models.wrap import wrap as wrap
from .pipeline import explain_case as explain_case
from .run.options import Balls as Balls
from .run.options import Mask as Mask
from .run.options import Options as Options
from .run.options import Result as Result
from .run.prepare import prepare as prepare

# Read
from .store.hdf5 import open_result as open_result
from .store.reader import maps as maps
from .tables.domains import tabulate as tabulate

# Nouns
from .errors import SegxaiError as SegxaiError
from .errors import SegxaiWarning as SegxaiWarning
from .errors import one_line as one_line
from .errors import unknown_name as unknown_name
from .errors import warn as warn
from .geometry import Box as Box
from .geometry import Grid as Grid
from .types import Activation as Activation
from .types import Attribution as Attribution
from .types import Case as Case
from .types import Instance as Instance
from .types import InstanceCriteria as InstanceCriteria
from .types import Source as Source

# Predictors
from .segment.detections import Detections as Detections
from .segment.inference_mode import exact_arithmetic as exact_arithmetic
from .segment.inference_mode import frozen as frozen
from .segment.logits import logits_of as logits_of
from .segment.prediction import Prediction as Prediction
from .segment.prediction import SlidingWindow as SlidingWindow
from .segment.prediction import WholeImage as WholeImage
from .segment.predictor import Predictor as Predictor
from .segment.readout import Readout as Readout
from .segment.windows import Layout as Layout
from .segment.windows import sliding_window as sliding_window
from .segment.windows import whole_image as whole_image

# For plugins
from .load.channels import check_same_grid as check_same_grid
from .load.channels import check_varies as check_varies
from .load.channels import load_volumes as load_volumes
from .load.itk import is_for_itk as is_for_itk
from .load.limits import check_size as check_size
from .load.normalisation import IMAGENET_MEAN as IMAGENET_MEAN
from .load.normalisation import IMAGENET_STD as IMAGENET_STD
from .load.normalisation import Normalisation as Normalisation
from .load.normalisation import find_normalisation as find_normalisation
from .load.pictures import Picture as Picture
from .load.pictures import load_picture as load_picture
from .load.pictures import load_picture_labels as load_picture_labels
from .load.reader import Reader as Reader
from .load.masks import load_mask as load_mask
from .load.reader import read_case as read_case
from .load.masks import with_reference as with_reference
from .load.resampling import describe_change as describe_change
from .load.resampling import describe_crop as describe_crop
from .load.resampling import resample as resample
from .load.resampling import working_grid as working_grid
from .load.volumes import Volume as Volume
from .load.volumes import file_sha256 as file_sha256
from .load.volumes import load_labels as load_labels
from .load.volumes import load_volume as load_volume
from .load.voxel_size import check_change as check_change
from .load.voxel_size import header_spacing as header_spacing
from .plugins.adapter import Adapter as Adapter
from .plugins.hookspecs import hookimpl as hookimpl
from .plugins.registry import load_adapter as load_adapter
from .plugins.registry import load_aggregator as load_aggregator
from .plugins.registry import load_method as load_method
from .segment.weight_sets import WeightSet as WeightSet
from .segment.weight_sets import unwrap as unwrap
from .segment.weight_sets import weight_sets as weight_sets
from .segment.weights import load_weights as load_weights
from .segment.weights import read_tensors as read_tensors
from .text import format_shape as format_shape

# For methods
from .methods.cam import InstanceCam as InstanceCam
from .methods.cropping import crop_to_support as crop_to_support
from .methods.gradcam import InstanceGradCamPlusPlus as InstanceGradCamPlusPlus
from .methods.gradient import InstanceGradient as InstanceGradient
from .methods.guided_backprop import GuidedBackprop as GuidedBackprop
from .methods.method import Aggregator as Aggregator
from .methods.method import Context as Context
from .methods.method import Method as Method
from .methods.noise import draw_noise as draw_noise
from .methods.noise_tunnel import SeededNoiseTunnel as SeededNoiseTunnel
from .methods.options import MethodOptions as MethodOptions
from .methods.options import NoiseOptions as NoiseOptions
from .methods.resume_state import state_from_tensors as state_from_tensors
from .methods.resume_state import state_to_tensors as state_to_tensors
from .rows.batch import RowBatch as RowBatch
from .rows.instance_score import InstanceScore as InstanceScore
from .rows.perturbed_score import PerturbedScore as PerturbedScore

__version__: str
