"""Channels of a network that really leave: which are one, which stay, the small network, and the way back."""

from sartor.prune.channels.channel_plan import ChannelPlan as ChannelPlan
from sartor.prune.channels.compacting import compact as compact
from sartor.prune.channels.planning import plan as plan
