"""What do the parties agree on and exchange?"""
