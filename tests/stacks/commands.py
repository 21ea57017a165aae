"""Holds the AWS CLI's commands on standard input, one a line, against botocore's models: each operation and each option must exist.

Prints what is wrong, one a line.
"""

import shlex
import sys

import botocore.session
from botocore import xform_name

# Options of the AWS CLI itself.
GLOBAL = {"query", "output", "region", "profile", "no-cli-pager", "cli-binary-format"}
# Commands of the AWS CLI that are no single operation.
OF_ITS_OWN = {("cloudformation", "deploy")}


def fault(words):
    service, operation, *rest = words
    if (service, operation) in OF_ITS_OWN:
        return None
    session = botocore.session.get_session()
    if service not in session.get_available_services():
        return f"there is no service {service}"
    model = session.get_service_model(service)
    names = {xform_name(name).replace("_", "-"): name for name in model.operation_names}
    if operation not in names:
        return f"{service} has no {operation}"
    shape = model.operation_model(names[operation]).input_shape
    members = {xform_name(name).replace("_", "-") for name in (shape.members if shape else {})}
    required = {xform_name(name).replace("_", "-") for name in (shape.required_members if shape else [])}
    given = {word[2:].split("=")[0] for word in rest if word.startswith("--")}
    if unknown := given - members - GLOBAL:
        return f"{service} {operation} has no {', '.join(sorted(unknown))}"
    if missing := required - given:
        return f"{service} {operation} needs {', '.join(sorted(missing))}"
    return None


def words_of(line):
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()  # what is quoted goes on in the next line


for line in sys.stdin:
    words = words_of(line)
    if found := fault(words[1:]):
        print(f"{line.strip()}: {found}")
