"""Two visitors of a shared page and its admin."""

from rankviz.visitor import Visitor

ANN = Visitor("ann")
BEN = Visitor("ben")
ADMIN = Visitor("admin", admin=True)
