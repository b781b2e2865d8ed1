"""What several tests share. Each module begins with what it is for; none is a test."""
