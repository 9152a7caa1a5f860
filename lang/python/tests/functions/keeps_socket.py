import socket

kept = socket.socketpair()


def handler(event, context):
    return "works anyway"
