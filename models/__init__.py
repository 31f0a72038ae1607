"""Three small models, one a task, that learn the demo in minutes on two cores.

Each is a LightningModule with one number that says how good it is and a way to show it.
"""

from models.detector import Detector
from models.landmarker import Landmarker
from models.teacher import Teacher

__all__ = ["Detector", "Landmarker", "Teacher"]
