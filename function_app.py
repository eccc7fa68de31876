"""The function app: every blueprint (``bp``) of the modules in functions/."""

from importlib import import_module
from pkgutil import iter_modules

import azure.functions as func

import functions

app = func.FunctionApp()

for module in iter_modules(functions.__path__):
    app.register_blueprint(import_module(f"functions.{module.name}").bp)
