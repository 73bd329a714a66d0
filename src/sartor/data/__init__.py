"""What is learned from: pools of samples, their splits and noise, and the batches made of them."""

from sartor.data.at_hand import as_pool as as_pool
from sartor.data.augment import Augment as Augment
from sartor.data.formats import Splits as Splits
from sartor.data.loader import Batch as Batch
from sartor.data.loader import Loader as Loader
from sartor.data.noise import corrupt as corrupt
from sartor.data.opening import open_data as open_data
from sartor.data.pool import LabelNoise as LabelNoise
from sartor.data.pool import Pool as Pool
from sartor.data.preprocess import Preprocess as Preprocess
from sartor.data.split import hold_out as hold_out
