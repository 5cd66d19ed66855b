"""Where did the model look?"""
