"""A cell that holds a conversation becomes messages of one canonical form.

Role names, learn marks, parts of messages, calls and tools of all dialects are known only here.
"""

from trainer_backend.data.formats.conversations.calls import calls_of, without_nulls
from trainer_backend.data.formats.conversations.marks import TRAIN_MARKS, is_trained
from trainer_backend.data.formats.conversations.messages import (
    FILL_IN,
    order_problem,
    refuse_untaught,
    to_messages,
    with_system,
)
from trainer_backend.data.formats.conversations.notes import Note, Say, keep_quiet
from trainer_backend.data.formats.conversations.parts import OnImage, ReadText, Ways, system_text
from trainer_backend.data.formats.conversations.roles import ROLES, role_named, speaker_of
from trainer_backend.data.formats.conversations.tools import holds_tools, read_tools, slim_tools
from trainer_backend.data.formats.conversations.turns import (
    CONTENT_KEYS,
    as_list,
    turns_in,
    turns_of,
    unwrapped,
)
