"""Gives articles their addresses, by a library that is in a layer."""

import slugs


def handler(event, context):
    taken, addresses = set(), []
    for title in event["titles"]:
        name, number = slugs.slug(title), 1
        while name in taken:
            number += 1
            name = f"{slugs.slug(title)}-{number}"
        taken.add(name)
        addresses.append(f"/articles/{name}")
    return {"addresses": addresses}
