from trainer_backend.training.steps.paths import PathsTaken


def test_each_sentence_is_told_once_and_kept():
    told = []
    paths = PathsTaken(told.append)
    for sentence in ("Attention: one product a document.", "Merged: 2.", "Merged: 2."):
        paths.say(sentence)
    assert told == paths.sentences == ["Attention: one product a document.", "Merged: 2."]
