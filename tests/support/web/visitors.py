"""Three visitors of a shared page and its admin."""

from rankviz.visitor import Visitor

ANN = Visitor("ann")
BEN = Visitor("ben")
CARL = Visitor("carl")
ADMIN = Visitor("admin", admin=True)
