from inner_neighbour import NAME


def handler(event, context):
    return [NAME, __name__]
