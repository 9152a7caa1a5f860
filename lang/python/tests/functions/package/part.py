def handler(event, context):
    return __package__
