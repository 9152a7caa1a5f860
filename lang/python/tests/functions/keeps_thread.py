import threading

threading.Thread(target=threading.Event().wait, daemon=True).start()


def handler(event, context):
    return "works anyway"
