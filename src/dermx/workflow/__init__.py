"""Where the stages are joined; each public function is one command.

Nothing below knows its neighbours: readers give cases, training is handed pictures and a score,
evaluation reads one file of predictions.
"""
