"""Three small models, one for each task, that learn the demo in minutes on two CPU cores.

Each is a LightningModule with one score and a way to draw its predictions. They show that a data
set can be learned from; they are no substitute for the models of a real project.
"""

from models.detector import Detector
from models.landmarker import Landmarker
from models.teacher import Teacher

__all__ = ["Detector", "Landmarker", "Teacher"]
