def prepare():
    raise LookupError("nothing to prepare with")


prepare()
