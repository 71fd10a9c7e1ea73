"""What there is of `autogen.agentchat.contrib`: the capabilities that shorten messages."""
