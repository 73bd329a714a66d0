"""Channels of a network that really leave: which are one, which stay, the small network, and the way back."""

from sartor.prune.channels.channel_plan import ChannelPlan as ChannelPlan
from sartor.prune.channels.compacting import compact as compact
from sartor.prune.channels.fusing import disperse as disperse
from sartor.prune.channels.fusing import fuse as fuse
from sartor.prune.channels.fusing import fuse_state as fuse_state
from sartor.prune.channels.fusing import reestimate_statistics as reestimate_statistics
from sartor.prune.channels.planning import plan as plan
from sartor.prune.channels.saving import load_small as load_small
from sartor.prune.channels.saving import save_small as save_small
